// kafkajs and MQTT.js against firth: each alone, and across the two doors.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import kafkajs from 'kafkajs';
import mqtt from 'mqtt';

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const kafka = new kafkajs.Kafka({
  clientId: 'gate',
  brokers: [process.env.kafka],
  connectionTimeout: 60_000, // the machine may be busy
  requestTimeout: 180_000,
  logLevel: kafkajs.logLevel.NOTHING, // a rebalance is no error here
});

const ok = (what) => console.log(`  ok: ${what}`);

// until resolves when test is true, looked at again whenever something has come in.
const waiting = new Set();
const news = () => waiting.forEach((look) => look());
const until = (test, what) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} in time`)), 180_000);
    const look = () => {
      if (!test()) return;
      clearTimeout(timer);
      waiting.delete(look);
      resolve();
    };
    waiting.add(look);
    look();
  });

async function admin() {
  const a = kafka.admin();
  await a.connect();
  assert.equal(
    await a.createTopics({
      topics: [
        {
          topic: 'orders',
          numPartitions: 3,
          replicationFactor: 1,
          configEntries: [{ name: 'retention.ms', value: '3600000' }],
        },
      ],
    }),
    true,
  );
  assert.ok((await a.listTopics()).includes('orders'));
  const [orders] = (await a.fetchTopicMetadata({ topics: ['orders'] })).topics;
  assert.equal(orders.partitions.length, 3);
  const configs = await a.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: 'orders' }],
  });
  const retention = configs.resources[0].configEntries.find((e) => e.configName === 'retention.ms');
  assert.equal(retention.configValue, '3600000');
  await a.createPartitions({ topicPartitions: [{ topic: 'orders', count: 4 }] });
  assert.equal((await a.fetchTopicOffsets('orders')).length, 4);
  assert.equal((await a.describeCluster()).brokers.length, 1);
  await a.disconnect();
  ok('kafkajs admin: create, list, describe, configs, partitions, offsets, cluster');
}

// moreAdmin makes the calls of kafkajs's administration that admin does not.
async function moreAdmin() {
  const a = kafka.admin();
  await a.connect();
  const topic = 'ledger';
  const group = { groupId: 'auditors' };
  await a.createTopics({ validateOnly: true, waitForLeaders: false, topics: [{ topic, numPartitions: 2 }] });
  await a.createTopics({ topics: [{ topic, numPartitions: 2 }], waitForLeaders: true });
  assert.equal(await a.createTopics({ topics: [{ topic }] }), false, 'a topic that is there');
  const producer = kafka.producer();
  await producer.connect();
  const messages = Array.from({ length: 10 }, (_, i) => ({ partition: 0, value: `v${i}`, timestamp: String(1000 * (i + 1)) }));
  await producer.send({ topic, messages });
  await producer.disconnect();
  const at = async (time) => (await a.fetchTopicOffsetsByTimestamp(topic, time)).find((p) => p.partition === 0).offset;
  assert.equal(await at(5000), '4');
  assert.equal(await at(Date.now()), '10', 'no record is as young');
  await a.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '3' }] });
  const [first] = (await a.fetchTopicOffsets(topic)).filter((p) => p.partition === 0);
  assert.deepEqual([first.low, first.high], ['3', '10']);

  await a.alterConfigs({
    validateOnly: false,
    resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'cleanup.policy', value: 'compact' }] }],
  });
  const { resources } = await a.describeConfigs({
    includeSynonyms: true,
    resources: [
      { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ['cleanup.policy'] },
      { type: kafkajs.ConfigResourceTypes.BROKER, name: '1' },
    ],
  });
  assert.deepEqual(resources.map((r) => r.errorCode), [0, 0]);
  const [policy] = resources.find((r) => r.resourceName === topic).configEntries;
  assert.equal(policy.configValue, 'compact');
  assert.ok(policy.configSynonyms.length > 1, 'the default is behind what was set');

  const standing = async () => {
    const [{ partitions }] = await a.fetchOffsets({ ...group, topics: [topic] });
    return partitions.filter((p) => p.partition === 0).map((p) => p.offset);
  };
  await a.setOffsets({ ...group, topic, partitions: [{ partition: 0, offset: '7' }] });
  assert.deepEqual(await standing(), ['7']);
  await a.resetOffsets({ ...group, topic, earliest: true });
  assert.deepEqual(await standing(), ['-2'], 'kafkajs commits the name of the beginning');
  const [{ partitions }] = await a.fetchOffsets({ ...group, topics: [topic], resolveOffsets: true });
  assert.equal(partitions.find((p) => p.partition === 0).offset, '3');
  const described = (await a.describeGroups([group.groupId, 'nobody'])).groups;
  assert.deepEqual(described.map((g) => [g.errorCode, g.state]), [[0, 'Empty'], [0, 'Dead']]);

  await a.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [1] }] }] });
  assert.deepEqual((await a.listPartitionReassignments({ topics: [{ topic, partitions: [0] }] })).topics, []);
  await a.deleteGroups([group.groupId]);
  await assert.rejects(a.deleteGroups([group.groupId]), (e) => e.groups[0].error.type === 'GROUP_ID_NOT_FOUND');
  await a.deleteTopics({ topics: [topic] });
  await a.disconnect();
  ok('kafkajs admin: records, offsets by time, settings and what is behind them, offsets of groups, groups, reassignments');
}

async function produceAndConsume() {
  const total = 1000;
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (let from = 0; from < total; from += 100) {
    const messages = Array.from({ length: 100 }, (_, i) => ({
      key: `k${(from + i) % 50}`,
      value: `v${from + i}`,
      headers: { n: String(from + i) },
    }));
    await producer.send({
      topic: 'orders',
      acks: -1,
      compression: from % 200 ? kafkajs.CompressionTypes.GZIP : kafkajs.CompressionTypes.None,
      messages,
    });
  }
  await producer.disconnect();

  const consumers = [];
  const seen = new Map();
  const last = new Map();
  const disorder = [];
  for (let i = 0; i < 2; i++) {
    const c = kafka.consumer({ groupId: 'billing', sessionTimeout: 10_000, heartbeatInterval: 500 });
    consumers.push(c);
    await c.connect();
    await c.subscribe({ topic: 'orders', fromBeginning: true });
    await c.run({
      eachMessage: async ({ partition, message }) => {
        const value = message.value.toString();
        assert.equal(message.headers.n.toString(), value.slice(1));
        const n = Number(value.slice(1));
        const key = message.key.toString();
        if (!seen.has(value)) { // after a rebalance some may come again
          if (n <= (last.get(key) ?? -1)) disorder.push(`${key}: ${value} after v${last.get(key)}`);
          seen.set(value, partition);
          last.set(key, n);
        }
        news();
      },
    });
  }
  await until(() => seen.size === total, `${total} messages (${seen.size} came)`);
  for (const c of consumers) await c.disconnect();
  assert.deepEqual(disorder, []);

  const a = kafka.admin();
  await a.connect();
  const [{ partitions }] = await a.fetchOffsets({ groupId: 'billing', topics: ['orders'] });
  const committed = partitions.reduce((sum, p) => sum + Number(p.offset === '-1' ? 0 : p.offset), 0);
  assert.equal(committed, total, 'committed offsets');
  const groups = (await a.listGroups()).groups.map((g) => g.groupId);
  assert.ok(groups.includes('billing'));
  await a.deleteGroups(['billing']);
  await a.deleteTopics({ topics: ['orders'] });
  assert.ok(!(await a.listTopics()).includes('orders'));
  await a.disconnect();
  ok(`kafkajs: ${total} messages through an idempotent producer and a group of two, offsets committed`);
}

// readCommitted gives all that a reader of committed records finds.
async function readCommitted(topic, count) {
  const got = [];
  const consumer = kafka.consumer({ groupId: `${topic}-readers` });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      got.push(message.value.toString());
      news();
    },
  });
  await until(() => got.length >= count, `${count} committed messages (${got.length} came)`);
  await consumer.disconnect();
  return got;
}

async function transactions() {
  const a = kafka.admin();
  await a.connect();
  await a.createTopics({ topics: [{ topic: 'payments', numPartitions: 1 }] });
  const create = () => kafka.producer({ transactionalId: 'payer', maxInFlightRequests: 1, idempotent: true });
  const producer = create();
  await producer.connect();
  for (let i = 0; i < 6; i++) {
    const t = await producer.transaction();
    await t.send({ topic: 'payments', messages: [{ value: `p${i}` }, { value: `q${i}` }] });
    await t.sendOffsets({
      consumerGroupId: 'payers',
      topics: [{ topic: 'payments', partitions: [{ partition: 0, offset: String(10 + i) }] }],
    });
    await (i % 2 ? t.abort() : t.commit());
  }
  assert.deepEqual(await readCommitted('payments', 6), ['p0', 'q0', 'p2', 'q2', 'p4', 'q4']);
  const [{ partitions }] = await a.fetchOffsets({ groupId: 'payers', topics: ['payments'] });
  assert.equal(partitions[0].offset, '14', 'offset of the last transaction that was committed');

  const open = await producer.transaction();
  await open.send({ topic: 'payments', messages: [{ value: 'late' }] });
  const second = create();
  await second.connect();
  const t = await second.transaction();
  await t.send({ topic: 'payments', messages: [{ value: 'last' }] });
  await assert.rejects(open.commit(), (e) => ['PRODUCER_FENCED', 'INVALID_PRODUCER_EPOCH'].includes(e.type));
  await t.commit();
  for (const p of [producer, second]) await p.disconnect();
  await a.deleteGroups(['payments-readers']);
  assert.equal((await readCommitted('payments', 7)).at(-1), 'last');
  await a.disconnect();
  ok('kafkajs: transactions, with offsets of a group; a second instance fences the first');
}

const url = `mqtt://${process.env.mqtt}`;

// ways are how a device may connect: every version, over TCP and WebSocket.
const ways = [3, 4, 5].flatMap((protocolVersion) =>
  [url, `ws://${process.env.ws}/mqtt`].map((address) => ({
    address,
    name: `${protocolVersion}-${address.split(':')[0]}`,
    options: { protocolVersion, protocolId: protocolVersion === 3 ? 'MQIsdp' : 'MQTT' },
  })),
);

// collect gives what comes to a client, from now on.
function collect(client) {
  const got = [];
  client.on('message', (topic, payload, packet) => {
    got.push({ topic, text: payload.toString(), packet });
    news();
  });
  return got;
}

async function devices({ address, name, options }) {
  const five = options.protocolVersion === 5;
  const sub = await mqtt.connectAsync(address, options);
  const got = collect(sub);
  const [granted] = await sub.subscribeAsync(`fleet-${name}/+/pos`, { qos: 2 });
  assert.equal(granted.qos, 2);
  const pub = await mqtt.connectAsync(address, options);
  const properties = five
    ? { contentType: 'text/plain', userProperties: { unit: 'deg' }, responseTopic: 'answers/1' }
    : undefined;
  const all = Array.from({ length: 300 }, (_, i) =>
    pub.publishAsync(`fleet-${name}/car${i % 5}/pos`, `p${i}`, { qos: i % 3, properties }),
  );
  await Promise.all(all);
  await until(() => got.filter((m) => m.packet.qos > 0).length === 200, '200 messages of QoS 1 and 2');
  for (const qos of [0, 1, 2]) {
    for (let car = 0; car < 5; car++) {
      const numbers = got
        .filter((m) => m.packet.qos === qos && m.topic.includes(`car${car}`))
        .map((m) => Number(m.text.slice(1)));
      assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), 'once, in order per topic and QoS');
      if (qos > 0) assert.equal(numbers.length, 20);
    }
  }
  if (five) {
    const p = got[0].packet.properties;
    assert.equal(p.contentType, 'text/plain');
    assert.equal(p.responseTopic, 'answers/1');
    assert.equal(p.userProperties.unit, 'deg');
  }
  await sub.unsubscribeAsync(`fleet-${name}/+/pos`);
  await sub.endAsync();
  await pub.endAsync();
}

// sleepers is a device whose session outlives its connection, and one that leaves a will and a retained message.
async function sleepers({ address, name, options }) {
  const stays = { ...options, clientId: `sleeper-${name}`, clean: false, properties: { sessionExpiryInterval: 600 } };
  const first = await mqtt.connectAsync(address, stays);
  await first.subscribeAsync(`sleep-${name}/#`, { qos: 2 });
  await first.endAsync();

  const will = { topic: `sleep-${name}/will`, payload: 'gone', qos: 1 };
  const waker = await mqtt.connectAsync(address, { ...options, will, reconnectPeriod: 0 });
  for (let i = 0; i < 50; i++) await waker.publishAsync(`sleep-${name}/x`, `s${i}`, { qos: 2 });
  await waker.publishAsync(`sleep-${name}/kept`, 'kept', { qos: 1, retain: true });
  const closed = once(waker, 'close');
  waker.stream.destroy(); // a lost connection
  await closed;

  const again = mqtt.connect(address, stays);
  const got = collect(again);
  const [connack] = await once(again, 'connect');
  assert.equal(connack.sessionPresent, options.protocolVersion !== 3, 'session present'); // 3.1 cannot say it
  await until(() => got.length === 52, '52 messages');
  assert.deepEqual(got.filter((m) => m.topic.endsWith('/x')).map((m) => m.text), Array.from({ length: 50 }, (_, i) => `s${i}`));
  assert.deepEqual(
    got.filter((m) => !m.topic.endsWith('/x')).map((m) => `${m.topic} ${m.text} ${m.packet.retain}`).sort(),
    [`sleep-${name}/kept kept false`, `sleep-${name}/will gone false`],
  );
  await again.unsubscribeAsync(`sleep-${name}/#`);
  await again.endAsync();

  const late = await mqtt.connectAsync(address, options);
  const found = collect(late);
  await late.subscribeAsync(`sleep-${name}/+`, { qos: 1 });
  await until(() => found.length === 1, 'retained message');
  assert.equal(`${found[0].text} ${found[0].packet.retain}`, 'kept true');
  await late.publishAsync(`sleep-${name}/kept`, '', { qos: 1, retain: true });
  await late.endAsync();
}

async function across() {
  const device = await mqtt.connectAsync(url, { protocolVersion: 5 });
  const payload = Buffer.from([0, 255, 1, 254]);
  await device.publishAsync('mill/7/rpm', payload, {
    qos: 1,
    properties: { contentType: 'application/octet-stream', userProperties: { shift: 'night' } },
  });
  const records = [];
  const consumer = kafka.consumer({ groupId: 'mill-readers' });
  await consumer.connect();
  await consumer.subscribe({ topic: 'mill', fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      records.push(message);
      news();
    },
  });
  await until(() => records.length === 1, 'record from a device');
  assert.equal(records[0].key.toString(), 'mill/7/rpm');
  assert.deepEqual(records[0].value, payload);
  assert.equal(records[0].headers.shift.toString(), 'night');

  const commands = [];
  device.on('message', (topic, text) => {
    commands.push(`${topic} ${text}`);
    news();
  });
  await device.subscribeAsync('mill/+/set', { qos: 1 });
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: 'mill', messages: [{ key: 'mill/7/set', value: 'stop' }] });
  await until(() => commands.length === 1, 'command from a back end');
  assert.equal(commands[0], 'mill/7/set stop');
  await producer.disconnect();
  await consumer.disconnect();
  await device.endAsync();
  ok('across: MQTT.js to kafkajs and back, bytes, key and user property kept');
}

async function takeover() {
  const first = await mqtt.connectAsync(url, { clientId: 'twin', protocolVersion: 5, reconnectPeriod: 0 });
  const closed = once(first, 'disconnect');
  const second = await mqtt.connectAsync(url, { clientId: 'twin', protocolVersion: 5 });
  const [packet] = await closed;
  assert.equal(packet.reasonCode, 0x8e, 'session taken over');
  await second.endAsync();
  await first.endAsync(true);
  ok('MQTT.js: takeover by the same client id');
}

await admin();
await moreAdmin();
await produceAndConsume();
await transactions();
for (const way of ways) {
  await devices(way);
  await sleepers(way);
  ok(`MQTT.js, ${way.name}: QoS 0, 1 and 2 once in order; a session that was away, will, retained`);
}
await across();
await takeover();
process.exit(0);
