// What set-up is told of endpoints on EC2: a wrong word is named, and nothing of it is passed on half read.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ForeshiftError } from "../../models/errors.ts";
import { statedEnrolments } from "../../setup/vault-aws.ts";

const EU = { iamRoleArn: "arn:aws:iam::123456789012:role/foreshift-eu", region: "eu-west-1" };
const stated = (value: unknown) => statedEnrolments({ FORESHIFT_VAULT_AWS: JSON.stringify(value) });

test("swarms, their roles and regions; none where nothing is stated", () => {
  assert.deepEqual(statedEnrolments({}), {});
  assert.deepEqual(stated({ eu: EU }), { eu: { ...EU, endpoints: {} } });
});

test("a wrong word is refused by its field", () => {
  const refused = (value: unknown, field: RegExp, detail: RegExp) =>
    assert.throws(
      () => stated(value),
      (error: ForeshiftError) => error.code === "INVALID_FIELD" && field.test(error.field ?? "") && detail.test(error.message),
    );
  refused({ eu: { ...EU, region: "europe" } }, /eu\.region$/, /expected a region/);
  // Of an instance profile, not of its role.
  refused({ eu: { ...EU, iamRoleArn: "arn:aws:iam::123456789012:instance-profile/x" } }, /eu\.iamRoleArn$/, /role\/NAME/);
  refused({ eu: { ...EU, role: "x" } }, /eu$/, /role/);
  refused({ "Not a name": EU }, /^FORESHIFT_VAULT_AWS\.Not a name$/, /Invalid key/);
  assert.throws(() => statedEnrolments({ FORESHIFT_VAULT_AWS: "{" }), /it is not JSON/);
});
