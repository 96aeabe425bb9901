/* Eclipse Paho's C client in its asynchronous form against firth: a publisher and a subscriber that reconnect by
   themselves, with QoS 2 and MQTT 3.1.1, across a restart of firth, which is asked for by a line "restart". The publisher
   keeps what is in flight in files, in the folder that is the only argument. */
#include <MQTTAsync.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TOTAL = 800, LIMIT = 180 /* seconds for all to happen */ };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static int connected, subscribed, completed, came; /* under the lock */

static void fail(const char *what, int is) {
	fprintf(stderr, "FAIL: %s (%d)\n", what, is);
	exit(1);
}

static void wait_until(int *counter, int least, const char *what) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LIMIT;
	pthread_mutex_lock(&lock);
	while (*counter < least)
		if (pthread_cond_timedwait(&news, &lock, &until) != 0) fail(what, *counter);
	pthread_mutex_unlock(&lock);
}

static void count(int *counter) {
	pthread_mutex_lock(&lock);
	++*counter;
	pthread_cond_broadcast(&news);
	pthread_mutex_unlock(&lock);
}

static int arrived(void *context, char *topic, int length, MQTTAsync_message *m) {
	char want[32];
	(void)context, (void)length;
	snprintf(want, sizeof want, "r%d", came);
	if (m->payloadlen != (int)strlen(want) || memcmp(m->payload, want, strlen(want)) != 0) {
		fprintf(stderr, "FAIL: got %.*s, want %s\n", m->payloadlen, (char *)m->payload, want);
		exit(1);
	}
	MQTTAsync_freeMessage(&m);
	MQTTAsync_free(topic);
	count(&came);
	return 1;
}

static void on_connect(void *context, MQTTAsync_successData *data) { (void)context, (void)data, count(&connected); }
static void on_refused(void *context, MQTTAsync_failureData *data) { (void)context, fail("CONNECT", data ? data->code : 0); }
static void on_subscribe(void *context, MQTTAsync_successData *data) { (void)context, (void)data, count(&subscribed); }
static void on_sent(void *context, MQTTAsync_successData *data) { (void)context, (void)data, count(&completed); }
static void on_failed(void *context, MQTTAsync_failureData *data) { (void)context, fail("PUBLISH", data ? data->code : 0); }

static MQTTAsync dial(const char *id, char *dir) {
	MQTTAsync c;
	char uri[256];
	MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer;
	MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer;
	snprintf(uri, sizeof uri, "tcp://%s", getenv("mqtt"));
	options.sendWhileDisconnected = 1;
	options.maxBufferedMessages = TOTAL;
	int rc = MQTTAsync_createWithOptions(&c, uri, id, dir ? MQTTCLIENT_PERSISTENCE_DEFAULT : MQTTCLIENT_PERSISTENCE_NONE,
	                                     dir, &options);
	if (rc != MQTTASYNC_SUCCESS) fail("create", rc);
	if ((rc = MQTTAsync_setCallbacks(c, NULL, NULL, arrived, NULL)) != MQTTASYNC_SUCCESS) fail("setCallbacks", rc);
	o.MQTTVersion = MQTTVERSION_3_1_1;
	o.cleansession = 0;
	o.automaticReconnect = 1;
	o.minRetryInterval = 1;
	o.maxRetryInterval = 2;
	o.maxInflight = 50;
	o.onSuccess = on_connect;
	o.onFailure = on_refused;
	if ((rc = MQTTAsync_connect(c, &o)) != MQTTASYNC_SUCCESS) fail("connect", rc);
	return c;
}

int main(int argc, char **argv) {
	if (argc != 2) fail("usage: async FOLDER", argc);
	setvbuf(stdout, NULL, _IOLBF, 0);
	MQTTAsync sub = dial("a-sub", NULL), pub = dial("a-pub", argv[1]);
	wait_until(&connected, 2, "not connected");
	MQTTAsync_responseOptions taken = MQTTAsync_responseOptions_initializer;
	taken.onSuccess = on_subscribe;
	if (MQTTAsync_subscribe(sub, "async", 2, &taken) != MQTTASYNC_SUCCESS) fail("subscribe", 0);
	wait_until(&subscribed, 1, "not subscribed");

	for (int i = 0; i < TOTAL; i++) {
		char text[32];
		MQTTAsync_responseOptions sent = MQTTAsync_responseOptions_initializer;
		sent.onSuccess = on_sent;
		sent.onFailure = on_failed;
		int n = snprintf(text, sizeof text, "r%d", i);
		int rc = MQTTAsync_send(pub, "async", n, text, 2, 0, &sent);
		if (rc != MQTTASYNC_SUCCESS) fail("send", rc);
		if (i == TOTAL / 4) {
			wait_until(&completed, TOTAL / 8, "nothing is acknowledged");
			puts("restart");
		} else if (i > TOTAL / 4) {
			usleep(1000); /* so that some are published while nobody listens */
		}
	}
	wait_until(&came, TOTAL, "not all messages came");
	wait_until(&completed, TOTAL, "not all messages are acknowledged");
	MQTTAsync_responseOptions none = MQTTAsync_responseOptions_initializer;
	char last[32];
	int n = snprintf(last, sizeof last, "r%d", TOTAL); /* behind what might come twice */
	if (MQTTAsync_send(pub, "async", n, last, 2, 0, &none) != MQTTASYNC_SUCCESS) fail("send", TOTAL);
	wait_until(&came, TOTAL + 1, "the last message");
	printf("  ok: Paho C, asynchronous: %d messages of QoS 2 across a restart, each once, in order\n", TOTAL);
	MQTTAsync_destroy(&sub);
	MQTTAsync_destroy(&pub);
	return 0;
}
