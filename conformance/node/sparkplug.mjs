// Eclipse Tahu's Sparkplug client (an edge node) against firth, and a host application made of MQTT.js: births, data,
// commands, deaths. With the argument "aware" firth keeps the births (mqtt.sparkplug).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import mqtt from 'mqtt';
import sparkplug from 'sparkplug-client';
import payloads from 'sparkplug-payload';

const aware = process.argv[2] === 'aware';
const group = aware ? 'Aware' : 'Plant';
const url = `mqtt://${process.env.mqtt}`;
const { decodePayload, encodePayload } = payloads.get('spBv1.0');
const ok = (what) => console.log(`  ok: ${what}`);

// next gives messages of the host one by one: type, topic, payload.
const queue = [];
let wake = () => {};
async function next(type) {
  const limit = setTimeout(() => {
    console.error(`FAIL: no ${type} in time`);
    process.exit(1);
  }, 180_000);
  while (!queue.length) await new Promise((resolve) => (wake = resolve));
  clearTimeout(limit);
  const m = queue.shift();
  assert.equal(m.type, type, m.topic);
  return m;
}
const metric = (m, name) => m.payload.metrics.find((one) => one.name === name)?.value;

const host = await mqtt.connectAsync(url, { clientId: `host-${group}`, clean: true });
host.on('message', (topic, bytes, packet) => {
  queue.push({ topic, type: topic.split('/').at(2), payload: decodePayload(bytes), retain: packet.retain });
  wake();
});
await host.subscribeAsync(`spBv1.0/${group}/#`, { qos: 1 });

function edge(client) {
  return sparkplug.newClient({
    serverUrl: url, username: '', password: '', groupId: group, edgeNode: 'E1', clientId: client, version: 'spBv1.0',
    keepalive: 30, publishDeath: true, mqttOptions: { reconnectPeriod: 0, username: undefined, password: undefined },
  });
}
const values = (n) => ({ timestamp: Date.now(), metrics: [{ name: 'rpm', type: 'Int32', value: n }] });

// A node is born, with a device; it sends data, is told to be born again, and stops as it should.
const node = edge(`edge-${group}`);
await once(node, 'birth');
node.publishNodeBirth(values(1));
node.publishDeviceBirth('D1', values(2));
for (let n = 3; n < 103; n++) node.publishDeviceData('D1', values(n), n % 2 ? { compress: true } : {});
let m = await next('NBIRTH');
assert.deepEqual([Number(m.payload.seq), metric(m, 'rpm'), Number(metric(m, 'bdSeq')), m.retain], [0, 1, 0, false]);
m = await next('DBIRTH');
assert.deepEqual([Number(m.payload.seq), metric(m, 'rpm'), m.topic], [1, 2, `spBv1.0/${group}/DBIRTH/E1/D1`]);
for (let n = 3; n < 103; n++) {
  m = await next('DDATA');
  if (n % 2) assert.equal(m.payload.uuid, 'SPBV1.0_COMPRESSED');
  else assert.deepEqual([Number(m.payload.seq), metric(m, 'rpm')], [n - 1, n]);
}
ok(`Tahu, ${group}: NBIRTH, DBIRTH and 100 DDATA in order of their sequence numbers`);

const command = once(node, 'ncmd');
const rebirth = { timestamp: Date.now(), metrics: [{ name: 'Node Control/Rebirth', type: 'Boolean', value: true }] };
await host.publishAsync(`spBv1.0/${group}/NCMD/E1`, Buffer.from(encodePayload(rebirth)), { qos: 0 });
await next('NCMD'); // the host has asked for all of the group
assert.equal((await command)[0].metrics[0].value, true);
node.publishNodeBirth(values(200));
assert.equal(metric(await next('NBIRTH'), 'rpm'), 200);
node.publishDeviceDeath('D1', { timestamp: Date.now() });
await next('DDEATH');
const closed = once(node, 'close');
node.stop(); // publishes NDEATH, and says DISCONNECT: no will
await next('NDEATH');
await closed;
ok(`Tahu, ${group}: NCMD, born again, DDEATH, NDEATH`);

// A node that is lost: its NDEATH is the will.
const lost = edge(`lost-${group}`);
await once(lost, 'birth');
lost.publishNodeBirth(values(300));
assert.equal(metric(await next('NBIRTH'), 'rpm'), 300); // and no second NDEATH before it
lost.client.stream.destroy();
m = await next('NDEATH');
assert.deepEqual([Number(metric(m, 'bdSeq')), m.retain], [0, false]);
ok(`Tahu, ${group}: the NDEATH of a lost node is its will`);

// What a host finds that comes later: nothing, or the last births.
const late = await mqtt.connectAsync(url, { clientId: `late-${group}`, clean: true });
const found = [];
let ended = false;
const end = new Promise((resolve) => {
  late.on('message', (topic, bytes, packet) => {
    if (topic === `end/${group}`) ended = true;
    else found.push(`${topic} ${metric({ payload: decodePayload(bytes) }, 'rpm')} ${packet.retain}`);
    if (ended && found.length >= (aware ? 2 : 0)) resolve();
  });
});
await late.subscribeAsync([`$sparkplug/certificates/spBv1.0/${group}/#`, `spBv1.0/${group}/#`], { qos: 1 });
await host.publishAsync(`end/${group}`, 'end', { qos: 1, retain: true });
await late.subscribeAsync(`end/${group}`, { qos: 1 }); // behind what is retained
await end;
const certificates = '$sparkplug/certificates/spBv1.0/Aware';
assert.deepEqual(found.sort(), aware ? [`${certificates}/DBIRTH/E1/D1 2 true`, `${certificates}/NBIRTH/E1 300 true`] : []);
ok(`Tahu, ${group}: ${found.length} births are kept`);
process.exit(0);
