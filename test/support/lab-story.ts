/** What must hold of a lab's story, by what `lab up --once --json` has printed. */
import assert from "node:assert/strict";
import type { StoryResult } from "../../lab/story.ts";

export function assertStory(output: string, errors: string): void {
  assert.ok(output.trim().startsWith("{"), errors);
  const { chapters }: StoryResult = JSON.parse(output);
  assert.deepEqual(
    chapters.map(({ title }) => title),
    ["steady", "leak foreseen", "brownout", "crash", "freeze"],
    errors,
  );
  const [steady, foreseen, brownout, ...losses] = chapters;
  for (const planned of [steady, foreseen, brownout]) {
    assert.ok(planned !== undefined && planned.packetsSent > 0);
    assert.equal(planned.packetsDuplicated, 0, errors);
    assert.equal(planned.tcpBroken, 0, errors);
  }
  assert.ok((brownout?.sessionsMoved ?? 0) > 0);
  assert.ok((foreseen?.sessionsMoved ?? 0) > 0);
  // Nothing was wrong with it by then that anybody could have reacted to.
  assert.ok((foreseen?.aheadMs ?? 0) > 10_000, errors);
  for (const loss of losses) {
    // A second of silence is not asserted here: the machine that runs the tests may be busy. `npm start -- --once` does.
    assert.ok(loss.sessionsMoved > 0);
    assert.equal(loss.tcpBroken, 0, errors);
    assert.ok(loss.packetsLost < loss.packetsSent, errors);
  }
}
