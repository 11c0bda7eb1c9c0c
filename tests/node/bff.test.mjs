// What a web application's backend does with jobs, against a running installation:
// JOB_SERVICE=host:port INCLUDE_DIRS=protos:… CHECKPOINT=… node --test bff.test.mjs
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { after, test } from 'node:test';
import grpc from '@grpc/grpc-js';
import { follow, jobService } from './job-service.mjs';

const { JOB_SERVICE, INCLUDE_DIRS, CHECKPOINT } = process.env;
const { jobs, models, call, errorDetails, close } = jobService(JOB_SERVICE, INCLUDE_DIRS.split(':'));
after(close);

const job = (fields) => ({
  prompt: 'a lighthouse in a storm',
  checkpoint_model: CHECKPOINT,
  width: 64,
  height: 64,
  ...fields,
  sampler: { steps: 6, ...fields?.sampler },
});
const create = async (fields, request_id = randomUUID()) =>
  (await call(jobs, 'CreateJob', { job: job(fields), request_id })).job;

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'the call should have failed' });
}

async function download(request) {
  const chunks = [];
  let artifact;
  for await (const message of jobs.ReadArtifact(request, { deadline: Date.now() + 20_000 })) {
    if (message.content === 'artifact') artifact = message.artifact;
    else chunks.push(message.chunk);
  }
  return { artifact, bytes: Buffer.concat(chunks) };
}

test('a picture: created, watched to its end, read', async () => {
  const created = await create({ batch_size: 2 });
  assert.equal(created.status, 'JOB_STATUS_PENDING');
  assert.equal(typeof created.id, 'string');
  assert.ok(Number.isSafeInteger(Number(created.sampler.seed)), 'a drawn seed is exact in Node');

  const seen = [];
  for await (const now of follow(jobs, created.id)) seen.push(now);

  const done = seen.at(-1);
  assert.equal(done.status, 'JOB_STATUS_COMPLETED');
  assert.equal(new Set(seen.map((one) => one.id)).size, 1);
  const fractions = seen.filter((one) => one.progress).map((one) => one.progress.fraction);
  assert.deepEqual(fractions, [...fractions].sort((a, b) => a - b));

  const pictures = done.artifacts.filter((one) => one.role === 'ARTIFACT_ROLE_OUTPUT');
  assert.equal(pictures.length, 2);
  for (const picture of pictures) {
    const { artifact, bytes } = await download({ artifact_id: picture.id });
    assert.equal(artifact.id, picture.id);
    assert.equal(bytes.length, Number(picture.size));
    assert.deepEqual(createHash('sha256').update(bytes).digest(), picture.sha256);
    assert.equal(bytes.subarray(1, 4).toString(), 'PNG');
  }
  const thumbnail = await download({ artifact_id: pictures[0].id, thumbnail_size: 300 });
  assert.equal(thumbnail.artifact.content_type, 'image/webp');
  assert.equal(thumbnail.bytes.subarray(8, 12).toString(), 'WEBP');
});

test('numbers beyond 2^53 come back as they were sent', async () => {
  const seed = '9007199254740993';
  const created = await create({ sampler: { seed }, scheduled_at: { seconds: '4102444800' } });
  assert.equal(created.sampler.seed, seed);
  assert.equal(created.pending_reason, 'PENDING_REASON_SCHEDULED');
  const { job: read } = await call(jobs, 'GetJob', { id: created.id });
  assert.equal(read.sampler.seed, seed);
  assert.equal(read.scheduled_at.seconds, '4102444800');
});

test('a request_id answers the same job again, and refuses another', async () => {
  const request_id = randomUUID();
  const first = await create({ sampler: { seed: 1 } }, request_id);
  const again = await create({ sampler: { seed: 1 } }, request_id);
  assert.equal(again.id, first.id);

  const error = await failure(create({ sampler: { seed: 2 } }, request_id));

  assert.equal(error.code, grpc.status.ALREADY_EXISTS);
  const { ErrorInfo } = errorDetails(error);
  assert.equal(ErrorInfo.reason, 'REQUEST_ID_REUSED');
  assert.equal(ErrorInfo.metadata.job_id, first.id);
});

test('a running job is cancelled', async () => {
  const created = await create({ sampler: { steps: 150 } });
  let asked = false;
  let last;
  for await (const now of follow(jobs, created.id)) {
    last = now;
    if (now.status === 'JOB_STATUS_RUNNING' && now.started_at && !asked) {
      asked = true;
      await call(jobs, 'CancelJob', { id: created.id, reason: 'changed my mind' });
    }
  }
  assert.ok(asked);
  assert.equal(last.status, 'JOB_STATUS_CANCELLED');
  assert.equal(last.cancel_reason, 'changed my mind');
});

test('every wrong field is named', async () => {
  const error = await failure(create({ prompt: ' ', width: 63, sampler: { steps: 0 } }));
  assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
  const { ErrorInfo, BadRequest } = errorDetails(error);
  assert.equal(ErrorInfo.domain, 'generation-jobs');
  assert.equal(ErrorInfo.reason, 'INVALID_FIELDS');
  assert.deepEqual(
    BadRequest.field_violations.map((one) => one.field).sort(),
    ['job.prompt', 'job.sampler.steps', 'job.width'],
  );
  assert.ok(BadRequest.field_violations.every((one) => one.description));
});

test('errors say which, and a watch reports them too', async () => {
  const unknown = await failure(call(jobs, 'GetJob', { id: '9007199254740993' }));
  assert.equal(unknown.code, grpc.status.NOT_FOUND);
  assert.equal(errorDetails(unknown).ErrorInfo.reason, 'JOB_NOT_FOUND');

  const watched = await failure(follow(jobs, '9007199254740993').next());
  assert.equal(errorDetails(watched).ErrorInfo.reason, 'JOB_NOT_FOUND');
});

test('a deadline ends a call that would last', async () => {
  const created = await create({ scheduled_at: { seconds: '4102444800' } });
  const stream = jobs.WatchJob({ id: created.id }, { deadline: Date.now() + 200 });
  const error = await failure(
    (async () => {
      for await (const message of stream) assert.equal(message.job?.id ?? created.id, created.id);
    })(),
  );
  assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
  assert.deepEqual(errorDetails(error), {});
});

test('what workers offer can be chosen from', async () => {
  const { models: found } = await call(models, 'ListModels', {
    type: 'MODEL_TYPE_CHECKPOINT',
    active: true,
  });
  assert.ok(found.some((one) => one.name === CHECKPOINT && one.workers.length === 1));
});
