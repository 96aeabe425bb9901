/* Eclipse Paho's C client in its synchronous form against firth: MQTT 3.1, 3.1.1 and 5.0. */
#include <MQTTClient.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned long LIMIT = 180000; /* ms for anything to happen */
enum { COUNT = 15 }; /* messages of a kind: this client looks for an acknowledgement ten times a second */
static char uri[256];

static void fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	fputs("FAIL: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(1);
}

static MQTTClient create(const char *id, int version) {
	MQTTClient c;
	MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
	options.MQTTVersion = version;
	int rc = MQTTClient_createWithOptions(&c, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
	if (rc != MQTTCLIENT_SUCCESS) fail("create %s: %d", id, rc);
	return c;
}

/* dial connects, and tells whether the session was there. With lasts the session outlives its connection. */
static int dial(MQTTClient c, int version, int lasts) {
	if (version == MQTTVERSION_5) {
		MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer5;
		MQTTProperties props = MQTTProperties_initializer;
		MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = 600};
		o.MQTTVersion = version;
		o.cleanstart = !lasts;
		if (lasts) MQTTProperties_add(&props, &expiry);
		MQTTResponse r = MQTTClient_connect5(c, &o, &props, NULL);
		if (r.reasonCode != MQTTREASONCODE_SUCCESS) fail("connect5: %d", r.reasonCode);
		MQTTProperties_free(&props);
		MQTTResponse_free(r);
		return o.returned.sessionPresent;
	}
	MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer;
	o.MQTTVersion = version;
	o.cleansession = !lasts;
	int rc = MQTTClient_connect(c, &o);
	if (rc != MQTTCLIENT_SUCCESS) fail("connect: %d", rc);
	return o.returned.sessionPresent;
}

static void subscribe(MQTTClient c, int version, const char *filter, int qos) {
	int granted = version == MQTTVERSION_5 ? (int)MQTTClient_subscribe5(c, filter, qos, NULL, NULL).reasonCode
	                                       : MQTTClient_subscribe(c, filter, qos);
	if (version == MQTTVERSION_5 ? granted != qos : granted != MQTTCLIENT_SUCCESS) fail("subscribe %s: %d", filter, granted);
}

static void hang_up(MQTTClient c, int version) {
	int rc = version == MQTTVERSION_5 ? MQTTClient_disconnect5(c, 1000, MQTTREASONCODE_SUCCESS, NULL)
	                                  : MQTTClient_disconnect(c, 1000);
	if (rc != MQTTCLIENT_SUCCESS) fail("disconnect: %d", rc);
}

static void publish(MQTTClient c, int version, const char *topic, const char *text, int qos, int retained) {
	MQTTClient_message m = MQTTClient_message_initializer;
	MQTTClient_deliveryToken token;
	MQTTProperty user = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
	m.payload = (void *)text;
	m.payloadlen = (int)strlen(text);
	m.qos = qos;
	m.retained = retained;
	int rc;
	if (version == MQTTVERSION_5) {
		user.value.data = (MQTTLenString){4, "unit"};
		user.value.value = (MQTTLenString){3, "bar"};
		MQTTProperties_add(&m.properties, &user);
		MQTTResponse r = MQTTClient_publishMessage5(c, topic, &m, &token);
		rc = r.reasonCode;
		MQTTProperties_free(&m.properties);
	} else {
		rc = MQTTClient_publishMessage(c, topic, &m, &token);
	}
	if (rc != MQTTCLIENT_SUCCESS) fail("publish %s: %d", text, rc);
	if (qos > 0 && (rc = MQTTClient_waitForCompletion(c, token, LIMIT)) != MQTTCLIENT_SUCCESS)
		fail("no acknowledgement of %s: %d", text, rc);
}

/* gets takes the next message, which must be this one. */
static void gets_(MQTTClient c, int version, const char *topic, const char *text, int qos, int retained) {
	char *name = NULL;
	int length;
	MQTTClient_message *m = NULL;
	int rc = MQTTClient_receive(c, &name, &length, &m, LIMIT);
	if ((rc != MQTTCLIENT_SUCCESS && rc != MQTTCLIENT_TOPICNAME_TRUNCATED) || m == NULL) fail("no message %s: %d", text, rc);
	if (strcmp(name, topic) != 0 || m->payloadlen != (int)strlen(text) || memcmp(m->payload, text, strlen(text)) != 0 ||
	    m->qos != qos || m->retained != retained)
		fail("got %s = %.*s, QoS %d, retained %d; want %s = %s, %d, %d", name, m->payloadlen, (char *)m->payload, m->qos,
		     m->retained, topic, text, qos, retained);
	if (version == MQTTVERSION_5) {
		MQTTProperty *user = MQTTProperties_getProperty(&m->properties, MQTTPROPERTY_CODE_USER_PROPERTY);
		if (user == NULL || user->value.value.len != 3 || memcmp(user->value.value.data, "bar", 3) != 0)
			fail("%s: the user property", text);
	}
	MQTTClient_freeMessage(&m);
	MQTTClient_free(name);
}

static void version(int v, const char *says) {
	char text[32], topic[32];
	MQTTClient sub = create("c-sub", v), pub = create("c-pub", v), late = create("c-late", v);
	snprintf(topic, sizeof topic, "c%d/a", v);
	dial(sub, v, 0);
	dial(pub, v, 0);
	subscribe(sub, v, topic, 2);
	for (int qos = 0; qos <= 2; qos++) {
		for (int i = 0; i < COUNT; i++) {
			snprintf(text, sizeof text, "q%d %d", qos, i);
			publish(pub, v, topic, text, qos, 0);
		}
		for (int i = 0; i < COUNT; i++) {
			snprintf(text, sizeof text, "q%d %d", qos, i);
			gets_(sub, v, topic, text, qos, 0);
		}
	}
	printf("  ok: Paho C, %s: QoS 0, 1 and 2, each once, in order\n", says);

	publish(pub, v, topic, "kept", 1, 1);
	gets_(sub, v, topic, "kept", 1, 0);
	dial(late, v, 0);
	subscribe(late, v, topic, 1);
	gets_(late, v, topic, "kept", 1, 1);
	publish(pub, v, topic, "", 1, 1);
	hang_up(late, v);
	hang_up(sub, v);
	printf("  ok: Paho C, %s: retained, and live without RETAIN\n", says);

	MQTTClient sleeper = create("c-sleeper", v);
	dial(sleeper, v, 1);
	snprintf(topic, sizeof topic, "c%d/sleep", v);
	subscribe(sleeper, v, topic, 2);
	hang_up(sleeper, v);
	for (int i = 0; i < COUNT; i++) {
		snprintf(text, sizeof text, "s%d", i);
		publish(pub, v, topic, text, 2, 0);
	}
	int present = dial(sleeper, v, 1);
	/* MQTT 3.1 cannot say it, and this client does not tell it of 5.0. */
	if (present != (v == MQTTVERSION_3_1_1)) fail("%s: session present is %d", says, present);
	for (int i = 0; i < COUNT; i++) {
		snprintf(text, sizeof text, "s%d", i);
		gets_(sleeper, v, topic, text, 2, 0);
	}
	hang_up(sleeper, v);
	dial(sleeper, v, 0); /* and ends its session */
	hang_up(sleeper, v);
	hang_up(pub, v);
	printf("  ok: Paho C, %s: a session that was away, QoS 2, each once, in order\n", says);
	MQTTClient_destroy(&sub);
	MQTTClient_destroy(&pub);
	MQTTClient_destroy(&late);
	MQTTClient_destroy(&sleeper);
}

int main(void) {
	snprintf(uri, sizeof uri, "tcp://%s", getenv("mqtt"));
	setvbuf(stdout, NULL, _IOLBF, 0);
	version(MQTTVERSION_3_1, "3.1");
	version(MQTTVERSION_3_1_1, "3.1.1");
	version(MQTTVERSION_5, "5.0");
	return 0;
}
