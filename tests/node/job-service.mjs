import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

// Folders: `protos` of this project, and one that holds google/rpc/error_details.proto. `token`: a
// gateway's; `ca`: the certificate of who signed the service's, a Buffer. On one machine: neither.
export function jobService(address, includeDirs, { token, ca } = {}) {
  const definition = protoLoader.loadSync(
    [
      'generation_jobs/v1/generation_job_service.proto',
      'generation_jobs/v1/model_service.proto',
      'google/rpc/status.proto',
      'google/rpc/error_details.proto',
    ],
    {
      includeDirs,
      keepCase: true, // fields are named as in docs/api.md
      longs: String, // an int64 beyond 2^53 would lose its last digits as a number
      enums: String,
      defaults: true,
      oneofs: true, // message.event says which of `job`, `preview`, `keep_alive` is set
      json: true, // messages inside google.protobuf.Any are decoded
    },
  );
  const { v1 } = grpc.loadPackageDefinition(definition).generation_jobs;
  const options = {
    'grpc.keepalive_time_ms': 30_000, // pings more often than every 10 s are refused
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.initial_reconnect_backoff_ms': 100, // by default up to two minutes pass between attempts
    'grpc.max_reconnect_backoff_ms': 3_000,
    'grpc.service_config': JSON.stringify({
      methodConfig: [
        {
          name: [
            { service: 'generation_jobs.v1.GenerationJobService' },
            { service: 'generation_jobs.v1.ModelService' },
          ],
          retryPolicy: {
            maxAttempts: 5,
            initialBackoff: '0.2s',
            maxBackoff: '5s',
            backoffMultiplier: 2,
            retryableStatusCodes: ['UNAVAILABLE'],
          },
        },
      ],
    }),
  };
  const credentials = ca ? grpc.credentials.createSsl(ca) : grpc.credentials.createInsecure();
  const jobs = new v1.GenerationJobService(address, credentials, options);
  const models = new v1.ModelService(address, credentials, options);
  // Who calls, and for which user: the service shows and changes that user's things alone.
  const sent = (user) => {
    const metadata = new grpc.Metadata();
    if (token) metadata.set('authorization', `Bearer ${token}`);
    if (user) metadata.set('x-on-behalf-of', user);
    return metadata;
  };
  return {
    jobs,
    models,
    sent,
    // One answer, or an error with `code`, `details` (a text) and `metadata`.
    call: (client, rpc, request, { user, seconds = 10 } = {}) =>
      new Promise((resolve, reject) => {
        const deadline = Date.now() + seconds * 1000;
        client[rpc](request, sent(user), { deadline }, (error, answer) =>
          error ? reject(error) : resolve(answer),
        );
      }),
    // What the error of a call says beyond its text: ErrorInfo, BadRequest, RetryInfo, …
    errorDetails: (error) => {
      const [status] = error.metadata?.get('grpc-status-details-bin') ?? [];
      if (!status) return {}; // not from the service: no connection, a proxy in between
      const { details } = definition['google.rpc.Status'].deserialize(status);
      return Object.fromEntries(details.map((one) => [one['@type'].split('.').at(-1), one]));
    },
    close: () => [jobs, models].forEach((client) => client.close()),
  };
}

// The job whenever it moves, until it rests. Survives a broken connection: the stream opens with
// the job as it is, so calling again misses nothing.
export async function* follow(jobs, id, metadata = new grpc.Metadata(), silenceSeconds = 45) {
  for (let failures = 0; ; ) {
    const stream = jobs.WatchJob({ id }, metadata);
    let silence;
    const listen = () => {
      clearTimeout(silence); // a keep-alive comes every 15 s: after three, nobody is there
      silence = setTimeout(() => stream.cancel(), silenceSeconds * 1000);
    };
    try {
      listen();
      for await (const message of stream) {
        failures = 0;
        listen();
        if (message.event === 'job') yield message.job;
      }
      return;
    } catch (error) {
      const broken = [grpc.status.UNAVAILABLE, grpc.status.CANCELLED].includes(error.code);
      if (!broken || ++failures > 10) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 100 * 2 ** failures)));
    } finally {
      clearTimeout(silence);
      stream.cancel();
    }
  }
}
