// MQTT.js over TLS: tls.mjs URL CA [CERTIFICATE KEY] publishes ten messages and receives them.
import fs from 'node:fs'
import mqtt from 'mqtt'

const [url, ca, cert, key] = process.argv.slice(2)
const read = (name) => name && fs.readFileSync(name)
const client = await mqtt.connectAsync(url, { ca: read(ca), cert: read(cert), key: read(key), protocolVersion: 5 })
const topic = 'tls/mqttjs'
await client.subscribeAsync(topic, { qos: 1 })
const all = new Promise((resolve) => {
  const got = []
  client.on('message', (_topic, payload) => {
    got.push(payload.toString())
    if (got.length === 10) resolve(got)
  })
})
for (let n = 0; n < 10; n++) await client.publishAsync(topic, String(n), { qos: 1 })
const got = (await all).join()
if (got !== '0,1,2,3,4,5,6,7,8,9') throw new Error(got)
await client.endAsync()
