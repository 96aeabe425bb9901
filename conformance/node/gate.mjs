// kafkajs and MQTT.js against firth: each alone, and across the two doors.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import kafkajs from 'kafkajs';
import mqtt from 'mqtt';

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const kafka = new kafkajs.Kafka({
  clientId: 'gate',
  brokers: [process.env.kafka],
  logLevel: kafkajs.logLevel.NOTHING, // a rebalance is no error here
});

const ok = (what) => console.log(`  ok: ${what}`);

// until resolves when test is true, looked at again whenever something has come in.
const waiting = new Set();
const news = () => waiting.forEach((look) => look());
const until = (test, what) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} in time`)), 60_000);
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

const url = `mqtt://${process.env.mqtt}`;

async function devices() {
  for (const protocolVersion of [4, 5]) {
    const got = [];
    const sub = await mqtt.connectAsync(url, { protocolVersion });
    sub.on('message', (topic, payload, packet) => {
      got.push({ topic, text: payload.toString(), packet });
      news();
    });
    const [granted] = await sub.subscribeAsync(`fleet${protocolVersion}/+/pos`, { qos: 1 });
    assert.equal(granted.qos, 1);
    const pub = await mqtt.connectAsync(url, { protocolVersion });
    const properties =
      protocolVersion === 5
        ? { contentType: 'text/plain', userProperties: { unit: 'deg' }, responseTopic: 'answers/1' }
        : undefined;
    const all = Array.from({ length: 200 }, (_, i) =>
      pub.publishAsync(`fleet${protocolVersion}/car${i % 5}/pos`, `p${i}`, { qos: i % 2, properties }),
    );
    await Promise.all(all);
    await until(() => got.filter((m) => m.packet.qos === 1).length === 100, '100 messages of QoS 1');
    for (const qos of [0, 1]) {
      for (let car = 0; car < 5; car++) {
        const numbers = got
          .filter((m) => m.packet.qos === qos && m.topic.includes(`car${car}`))
          .map((m) => Number(m.text.slice(1)));
        assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b), 'order per topic and QoS');
      }
    }
    if (protocolVersion === 5) {
      const p = got[0].packet.properties;
      assert.equal(p.contentType, 'text/plain');
      assert.equal(p.responseTopic, 'answers/1');
      assert.equal(p.userProperties.unit, 'deg');
    }
    await sub.unsubscribeAsync(`fleet${protocolVersion}/+/pos`);
    await sub.endAsync();
    await pub.endAsync();
    ok(`MQTT.js, protocol ${protocolVersion}: QoS 0 and 1, order, properties`);
  }
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
await produceAndConsume();
await devices();
await across();
await takeover();
process.exit(0);
