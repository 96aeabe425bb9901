// Settings of Node-RED for the gate: no editor, and back within a second when the server was away.
module.exports = {
  flowFile: 'flows.json', uiHost: '127.0.0.1', uiPort: Number(process.env.ui_port), httpAdminRoot: false, httpNodeRoot: false,
  mqttReconnectTime: 1000, credentialSecret: false, telemetry: { enabled: false, updateNotification: false },
};
