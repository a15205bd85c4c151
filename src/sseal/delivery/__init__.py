"""One process's delivery: admission, fan-out, replay, revocations, heartbeat, drain."""
