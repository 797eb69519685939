// Mounts a backup, looks at it, reads the details of an error, follows health, and unmounts: the API from JavaScript.
//   node smoke.js PROTO_DIRECTORY ADDRESS MOUNT_REQUEST_JSON
// Prints what it found as JSON.
'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const path = require('path');
const protobuf = require('protobufjs');

const [protos, address, requestText] = process.argv.slice(2);
const request = JSON.parse(requestText);
const options = {keepCase: true, longs: String, enums: String, defaults: true, includeDirs: [protos]};
const api = grpc.loadPackageDefinition(loader.loadSync(
    ['pbkfs/v1/mount.proto', 'pbkfs/v1/catalog.proto', 'grpc/health/v1/health.proto'], options));

function client(service) {
  return new service(address, grpc.credentials.createInsecure());
}

// A call as a promise, with a deadline.
function call(stub, method, message) {
  const deadline = new Date(Date.now() + 60000);
  return new Promise((resolve, reject) => stub[method](
      message, {deadline}, (error, answer) => error ? reject(error) : resolve(answer)));
}

// What grpc-status-details-bin holds: {name of the type: message}.
function detailsOf(error) {
  const root = new protobuf.Root();
  root.resolvePath = (_, target) => target.startsWith('google/protobuf/') ? target : path.join(protos, target);
  root.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], {keepCase: true});
  const status = root.lookupType('google.rpc.Status').decode(error.metadata.get('grpc-status-details-bin')[0]);
  const details = {};
  for (const packed of status.details) {
    const name = packed.type_url.split('/').pop();
    details[name] = root.lookupType(name).toObject(root.lookupType(name).decode(packed.value));
  }
  return details;
}

async function main() {
  const mounts = client(api.pbkfs.v1.MountService);
  const catalog = client(api.pbkfs.v1.CatalogService);
  const health = client(api.grpc.health.v1.Health);
  const found = {};
  const backups = await call(catalog, 'ListBackups', {store: request.store});
  found.backups = backups.backups.map((backup) => backup.backup_id);
  const watch = health.Watch({service: `mount/${request.mount_id}`});
  found.health = [];
  watch.on('data', (answer) => found.health.push(answer.status));
  watch.on('error', () => {});
  const follow = async (status) => {
    while (found.health[found.health.length - 1] !== status) {
      await new Promise((resolve) => watch.once('data', resolve));
    }
  };
  await follow('SERVICE_UNKNOWN');
  const made = await call(mounts, 'Mount', request);
  found.state = made.state;
  found.chain = made.chain.map((member) => member.backup_id);
  found.listed = (await call(mounts, 'ListMounts', {})).mounts.map((mount) => mount.mount_id);
  found.written = (await call(mounts, 'Stats', {mount_id: request.mount_id})).mounts[0].io.written_bytes;
  found.serving = (await call(health, 'Check', {service: `mount/${request.mount_id}`})).status;
  await follow('SERVING');
  const error = await call(mounts, 'Mount', {...request, read_only: true}).catch((refusal) => refusal);
  found.refusal = {code: grpc.status[error.code], message: error.details, details: detailsOf(error)};
  const invalid = await call(mounts, 'Mount', {...request, mount_id: 'X'}).catch((refusal) => refusal);
  found.invalid = detailsOf(invalid);
  found.unmounted = (await call(mounts, 'Unmount', {mount_id: request.mount_id, delete_diff: true})).was_mounted;
  await follow('SERVICE_UNKNOWN');
  watch.cancel();
  process.stdout.write(JSON.stringify(found) + '\n');
  for (const stub of [mounts, catalog, health]) stub.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
