// The JavaScript decoder passes every vector the Python decoder passes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Decoder, WireError } from "../../src/sseal/cli/demo/page/wire.js";

const vectors = JSON.parse(readFileSync(new URL("../../spec/vectors/decode.json", import.meta.url), "utf8"));

const bytesOf = (piece) => Buffer.from(piece.hex ?? piece, piece.hex === undefined ? "utf8" : "hex");

function expected({ events, last_event_id: lastEventId, retry }) {
  const full = events.map(({ last_event_id, ...event }) => ({
    id: null,
    retry: null,
    topic: null,
    ...event,
    lastEventId: last_event_id,
  }));
  return { events: full, lastEventId, retry };
}

function decode(pieces) {
  const decoder = new Decoder();
  const events = pieces.flatMap((piece) => decoder.feed(piece));
  return { events, lastEventId: decoder.lastEventId, retry: decoder.retry };
}

for (const vector of vectors.cases) {
  test(vector.name, () => {
    const pieces = vector.input.map(bytesOf);
    const whole = Buffer.concat(pieces);
    assert.deepEqual(decode(pieces), expected(vector), "as given");
    assert.deepEqual(decode([whole]), expected(vector), "whole");
    assert.deepEqual(decode([...whole].map((byte) => Uint8Array.of(byte))), expected(vector), "byte by byte");
    for (let cut = 0; cut <= whole.length; cut++) {
      const halves = [whole.subarray(0, cut), whole.subarray(cut)];
      assert.deepEqual(decode(halves), expected(vector), `cut at ${cut}`);
    }
    if (vector.input.every((piece) => typeof piece === "string")) {
      assert.deepEqual(decode(vector.input), expected(vector), "as text");
      assert.deepEqual(decode(vector.input.join("").split("")), expected(vector), "as text, unit by unit");
    }
  });
}

test("an event is there as soon as the CR that ends its block", () => {
  const decoder = new Decoder();
  assert.equal(decoder.feed("data: a\r\r").length, 1);
  assert.equal(decoder.feed("\n").length, 0);
});

test("a line above its bound ends the decoder, after the events before it", () => {
  const decoder = new Decoder({ maxLine: 9 });
  assert.equal(decoder.feed("data: abc\n\ndata: abcd")[0].data, "abc");
  assert.ok(decoder.error instanceof WireError);
  assert.throws(() => decoder.feed("\n\n"), /maxLine/);
});

test("an event above its bound ends the decoder", () => {
  const decoder = new Decoder({ maxEvent: 3 });
  assert.equal(decoder.feed("data: a\ndata: b\n\n")[0].data, "a\nb");
  assert.throws(() => decoder.feed("data: a\ndata: bc\n"), /maxEvent/);
  assert.throws(() => decoder.feed(""), WireError);
});

test("a resumed stream keeps its cursor until it sends an id", () => {
  const decoder = new Decoder({ lastEventId: "7" });
  assert.equal(decoder.feed("data: a\n\n")[0].lastEventId, "7");
  assert.equal(decoder.feed("id: 8\ndata: a\n\n")[0].lastEventId, "8");
});
