// Counts what came, by the numbers the sender gave: a number never seen is missed, one seen twice is doubled.

const REMEMBERED = 1000;

export class SequenceCheck {
  received = 0;
  missed = 0;
  doubled = 0;

  #epoch = null;
  #first = null;
  #last = null;
  #holes = []; // [from, to], both missing
  #positions = new Set(); // events without a number of their own

  /** Returns "new", "late" (it had been counted as missed), "doubled" or "restarted" (the sender counts afresh). */
  number(seq, epoch) {
    this.received += 1;
    if (this.#first === null || (epoch !== this.#epoch && seq <= this.#last)) {
      const restarted = this.#first !== null;
      this.#epoch = epoch;
      this.#first = this.#last = seq;
      this.#holes = []; // what the old sender still owed stays counted as missed
      return restarted ? "restarted" : "new";
    }
    this.#epoch = epoch;
    if (seq > this.#last) {
      this.#hole(this.#last + 1, seq - 1);
      this.#last = seq;
      return "new";
    }
    if (seq < this.#first) {
      this.#hole(seq + 1, this.#first - 1);
      this.#first = seq;
      return "new";
    }
    if (this.#fill(seq)) return "late";
    this.doubled += 1;
    return "doubled";
  }

  /** An event known only by its position. Returns whether it is new. */
  position(position) {
    this.received += 1;
    if (position && this.#positions.has(position)) {
      this.doubled += 1;
      return false;
    }
    this.#positions.add(position);
    if (this.#positions.size > REMEMBERED) this.#positions.delete(this.#positions.values().next().value);
    return true;
  }

  #hole(from, to) {
    if (from > to) return;
    this.#holes.push([from, to]);
    if (this.#holes.length > REMEMBERED) this.#holes.shift();
    this.missed += to - from + 1;
  }

  #fill(seq) {
    const at = this.#holes.findIndex(([from, to]) => from <= seq && seq <= to);
    if (at < 0) return false;
    const [from, to] = this.#holes[at];
    const rest = [[from, seq - 1], [seq + 1, to]].filter(([a, b]) => a <= b);
    this.#holes.splice(at, 1, ...rest);
    this.missed -= 1;
    return true;
  }
}
