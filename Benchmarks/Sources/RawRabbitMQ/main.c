// What the AMQP client is compared with: librabbitmq used directly, on one thread, the way its own documentation and examples use it
// at its best: a window of unconfirmed messages, a prefetch, buffers released after each message.
//
//   AMQP_URL=amqp://user:password@host:port/vhost RawRabbitMQ <command> ...
//
//   publish       QUEUE COUNT SIZE WINDOW            amqp_basic_publish for each message
//   publish-bulk  QUEUE COUNT SIZE WINDOW            the window's room encoded into one buffer, one send for it
//   consume       QUEUE COUNT PREFETCH ACK_EVERY     1: an ack for each delivery; more: `multiple` for so many
//   confirm       QUEUE COUNT SIZE                   one message at a time, each until its confirm
//   serve         QUEUE                              answers requests until it is killed
//   call          QUEUE COUNT SIZE                   one request at a time, each until its reply
//
// Prints one line: seconds=… user=… system=… and, for confirm and call, p50=… p99=…, all in seconds. What comes before the first
// message (connecting, declaring) is not in it.

#include "../CRabbitMQ/shim.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define FRAME_MAX 131072
#define CHANNEL 1

static amqp_connection_state_t connection;

__attribute__((noreturn)) static void die(const char *doing, const char *why) {
    fprintf(stderr, "RawRabbitMQ: %s: %s\n", doing, why);
    exit(1);
}

static void check(int status, const char *doing) {
    if (status < 0) die(doing, amqp_error_string2(status));
}

static void check_reply(amqp_rpc_reply_t reply, const char *doing) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) die(doing, amqp_error_string2(reply.library_error));
    die(doing, "the broker refused");
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) die("allocating", "out of memory");
    return memory;
}

// --- time ---------------------------------------------------------------------------------------------------------

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static double began;
static struct rusage usage_before;

static void start_clock(void) {
    getrusage(RUSAGE_SELF, &usage_before);
    began = now();
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// `samples` is NULL where there are none.
static void stop_clock(double *samples, long count) {
    double took = now() - began;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("seconds=%.6f user=%.6f system=%.6f", took, seconds(usage.ru_utime) - seconds(usage_before.ru_utime),
           seconds(usage.ru_stime) - seconds(usage_before.ru_stime));
    if (samples) {
        qsort(samples, (size_t)count, sizeof *samples, compare);
        printf(" p50=%.9f p99=%.9f", samples[count / 2], samples[count * 99 / 100]);
    }
    printf("\n");
}

// --- connecting ---------------------------------------------------------------------------------------------------

static void connect_to_broker(void) {
    char *url = getenv("AMQP_URL");
    if (!url) die("connecting", "AMQP_URL is not set");
    // Taken apart in place.
    url = strdup(url);
    struct amqp_connection_info info;
    amqp_default_connection_info(&info);
    check(amqp_parse_url(url, &info), "reading AMQP_URL");
    connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (!socket) die("connecting", "out of memory");
    check(amqp_socket_open(socket, info.host, info.port), "connecting");
    check_reply(
        amqp_login(connection, info.vhost, 0, FRAME_MAX, 30, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "logging in");
    amqp_channel_open(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "opening a channel");
    free(url);
}

static void disconnect(void) {
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

// --- publishing ---------------------------------------------------------------------------------------------------

static amqp_basic_properties_t message_properties(void) {
    amqp_basic_properties_t properties;
    memset(&properties, 0, sizeof properties);
    properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    return properties;
}

static amqp_bytes_t make_body(long size) {
    amqp_bytes_t body = {(size_t)size, allocate((size_t)size + 1)};
    memset(body.bytes, 'x', (size_t)size);
    return body;
}

// Which messages wait for their confirm: a ring over the last tags. Confirms may be out of order and cover several.
struct confirms {
    bool *is_open;
    uint64_t ring;
    uint64_t window;
    uint64_t lowest;  // no open tag is below
    uint64_t next;    // the tag of the next message
    uint64_t open;
};

static struct confirms select_confirms(long window) {
    amqp_confirm_select(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "switching confirms on");
    // Longer than the window: one late confirm must not hold up the others.
    uint64_t ring = 16 * (uint64_t)window;
    struct confirms confirms = {allocate(ring), ring, (uint64_t)window, 1, 1, 0};
    return confirms;
}

static bool has_room(const struct confirms *confirms) {
    return confirms->open < confirms->window && confirms->next - confirms->lowest < confirms->ring;
}

static void published(struct confirms *confirms) {
    confirms->is_open[confirms->next++ % confirms->ring] = true;
    confirms->open++;
}

static void settle(struct confirms *confirms, uint64_t tag, bool multiple) {
    for (uint64_t at = multiple ? confirms->lowest : tag; at <= tag; at++) {
        bool *is_open = &confirms->is_open[at % confirms->ring];
        if (*is_open) confirms->open--;
        *is_open = false;
    }
    while (confirms->lowest < confirms->next && !confirms->is_open[confirms->lowest % confirms->ring]) confirms->lowest++;
}

// Takes one frame; with `wait` false, only what is here already. Returns whether there was one.
static bool take_confirm(struct confirms *confirms, bool wait) {
    amqp_frame_t frame;
    struct timeval at_once = {0, 0};
    int status = amqp_simple_wait_frame_noblock(connection, &frame, wait ? NULL : &at_once);
    if (status == AMQP_STATUS_TIMEOUT) return false;
    check(status, "waiting for a confirm");
    if (frame.frame_type == AMQP_FRAME_METHOD) {
        switch (frame.payload.method.id) {
        case AMQP_BASIC_ACK_METHOD: {
            amqp_basic_ack_t *ack = frame.payload.method.decoded;
            settle(confirms, ack->delivery_tag, ack->multiple);
            break;
        }
        case AMQP_BASIC_NACK_METHOD: die("publishing", "the broker refused a message");
        case AMQP_BASIC_RETURN_METHOD: die("publishing", "no queue took a message");
        default: die("publishing", "the broker closed the channel");
        }
    }
    amqp_maybe_release_buffers_on_channel(connection, CHANNEL);
    return true;
}

static void publish_one(amqp_bytes_t queue, const amqp_basic_properties_t *properties, amqp_bytes_t body) {
    check(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, queue, 1, 0, properties, body), "publishing");
}

static void publish(amqp_bytes_t queue, long count, long size, long window) {
    struct confirms confirms = select_confirms(window);
    amqp_basic_properties_t properties = message_properties();
    amqp_bytes_t body = make_body(size);
    start_clock();
    for (long sent = 0; sent < count || confirms.open > 0;) {
        while (sent < count && has_room(&confirms)) {
            publish_one(queue, &properties, body);
            published(&confirms);
            sent++;
        }
        take_confirm(&confirms, true);
        while (take_confirm(&confirms, false)) {}
    }
    stop_clock(NULL, 0);
}

// --- publishing, many messages a send -----------------------------------------------------------------------------

static uint8_t *put(uint8_t *at, uint64_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) *at++ = (uint8_t)(value >> shift);
    return at;
}

// Writes type, channel, length and end around a payload that is at frame + 7 already. Returns what follows the frame.
static uint8_t *finish_frame(uint8_t *frame, uint8_t type, size_t payload) {
    put(put(put(frame, type, 1), CHANNEL, 2), payload, 4);
    frame[7 + payload] = AMQP_FRAME_END;
    return frame + 8 + payload;
}

static uint8_t *encode(uint8_t *at, amqp_bytes_t queue, amqp_basic_properties_t *properties, amqp_bytes_t body) {
    amqp_basic_publish_t method = {0, amqp_empty_bytes, queue, 1, 0};
    amqp_bytes_t room = {4096, put(at + 7, AMQP_BASIC_PUBLISH_METHOD, 4)};
    int length = amqp_encode_method(AMQP_BASIC_PUBLISH_METHOD, &method, room);
    check(length, "encoding a method");
    at = finish_frame(at, AMQP_FRAME_METHOD, 4 + (size_t)length);

    room.bytes = put(put(put(at + 7, AMQP_BASIC_CLASS, 2), 0, 2), body.len, 8);
    length = amqp_encode_properties(AMQP_BASIC_CLASS, properties, room);
    check(length, "encoding a header");
    at = finish_frame(at, AMQP_FRAME_HEADER, 12 + (size_t)length);

    if (body.len == 0) return at;
    memcpy(at + 7, body.bytes, body.len);
    return finish_frame(at, AMQP_FRAME_BODY, body.len);
}

static void send_all(const uint8_t *from, const uint8_t *to) {
    while (from < to) {
        ssize_t sent = send(amqp_get_sockfd(connection), from, (size_t)(to - from), MSG_NOSIGNAL);
        if (sent > 0) {
            from += sent;
        } else if (errno == EAGAIN) {
            // The library has made the socket non-blocking.
            struct pollfd writable = {amqp_get_sockfd(connection), POLLOUT, 0};
            poll(&writable, 1, -1);
        } else if (errno != EINTR) {
            die("publishing", strerror(errno));
        }
    }
}

static void publish_bulk(amqp_bytes_t queue, long count, long size, long window) {
    if (size > FRAME_MAX - 8) die("publish-bulk", "the size must fit into one frame");
    struct confirms confirms = select_confirms(window);
    amqp_basic_properties_t properties = message_properties();
    amqp_bytes_t body = make_body(size);
    uint8_t *buffer = allocate((size_t)window * ((size_t)size + 1024) + 8192);
    start_clock();
    for (long sent = 0; sent < count || confirms.open > 0;) {
        uint8_t *end = buffer;
        while (sent < count && has_room(&confirms)) {
            end = encode(end, queue, &properties, body);
            published(&confirms);
            sent++;
        }
        send_all(buffer, end);
        take_confirm(&confirms, true);
        while (take_confirm(&confirms, false)) {}
    }
    stop_clock(NULL, 0);
}

static void confirm(amqp_bytes_t queue, long count, long size) {
    struct confirms confirms = select_confirms(1);
    amqp_basic_properties_t properties = message_properties();
    amqp_bytes_t body = make_body(size);
    double *samples = allocate((size_t)count * sizeof *samples);
    start_clock();
    for (long index = 0; index < count; index++) {
        double at = now();
        publish_one(queue, &properties, body);
        published(&confirms);
        while (confirms.open > 0) take_confirm(&confirms, true);
        samples[index] = now() - at;
    }
    stop_clock(samples, count);
}

// --- consuming ----------------------------------------------------------------------------------------------------

static void start_consuming(amqp_bytes_t queue, int prefetch, bool no_ack) {
    if (!no_ack) {
        amqp_basic_qos(connection, CHANNEL, 0, (uint16_t)prefetch, 0);
        check_reply(amqp_get_rpc_reply(connection), "setting the prefetch");
    }
    amqp_basic_consume(connection, CHANNEL, queue, amqp_empty_bytes, 0, no_ack, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(connection), "consuming");
}

static void consume(amqp_bytes_t queue, long count, int prefetch, long ack_every) {
    start_clock();
    start_consuming(queue, prefetch, false);
    for (long taken = 1; taken <= count; taken++) {
        amqp_maybe_release_buffers(connection);
        amqp_envelope_t envelope;
        check_reply(amqp_consume_message(connection, &envelope, NULL, 0), "consuming");
        if (taken % ack_every == 0 || taken == count)
            check(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, ack_every > 1), "acknowledging");
        amqp_destroy_envelope(&envelope);
    }
    stop_clock(NULL, 0);
}

// --- requests and replies -----------------------------------------------------------------------------------------

__attribute__((noreturn)) static void serve(amqp_bytes_t queue) {
    start_consuming(queue, 1, true);
    printf("ready\n");
    fflush(stdout);
    while (true) {
        amqp_maybe_release_buffers(connection);
        amqp_envelope_t request;
        check_reply(amqp_consume_message(connection, &request, NULL, 0), "serving");
        amqp_basic_properties_t properties;
        memset(&properties, 0, sizeof properties);
        properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
        properties.delivery_mode = AMQP_DELIVERY_NONPERSISTENT;
        properties.correlation_id = request.message.properties.correlation_id;
        amqp_bytes_t reply_to = request.message.properties.reply_to;
        check(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, reply_to, 0, 0, &properties, request.message.body), "replying");
        amqp_destroy_envelope(&request);
    }
}

static void call(amqp_bytes_t queue, long count, long size) {
    start_consuming(amqp_cstring_bytes("amq.rabbitmq.reply-to"), 1, true);
    amqp_bytes_t body = make_body(size);
    double *samples = allocate((size_t)count * sizeof *samples);
    start_clock();
    for (long index = 0; index < count; index++) {
        char identifier[32];
        snprintf(identifier, sizeof identifier, "%ld", index);
        amqp_basic_properties_t properties;
        memset(&properties, 0, sizeof properties);
        properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG;
        properties.delivery_mode = AMQP_DELIVERY_NONPERSISTENT;
        properties.correlation_id = amqp_cstring_bytes(identifier);
        properties.reply_to = amqp_cstring_bytes("amq.rabbitmq.reply-to");
        double at = now();
        publish_one(queue, &properties, body);
        amqp_envelope_t reply;
        check_reply(amqp_consume_message(connection, &reply, NULL, 0), "waiting for a reply");
        samples[index] = now() - at;
        amqp_destroy_envelope(&reply);
        amqp_maybe_release_buffers(connection);
    }
    stop_clock(samples, count);
}

// ------------------------------------------------------------------------------------------------------------------

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    long numbers[3] = {1, 1, 1};
    for (int index = 3; index < count && index < 6; index++) {
        numbers[index - 3] = strtol(arguments[index], NULL, 10);
        if (numbers[index - 3] < 1) die(arguments[index], "not a positive number");
    }
    const struct {
        const char *name;
        int arguments;
    } commands[] = {{"publish", 6}, {"publish-bulk", 6}, {"consume", 6}, {"confirm", 5}, {"serve", 3}, {"call", 5}};
    int command = -1;
    for (int index = 0; index < 6; index++) {
        if (count > 1 && count == commands[index].arguments && strcmp(arguments[1], commands[index].name) == 0) command = index;
    }
    if (command < 0) die("usage", "publish|publish-bulk|consume|confirm|serve|call QUEUE ...; the head of main.c tells");

    amqp_bytes_t queue = amqp_cstring_bytes(arguments[2]);
    connect_to_broker();
    switch (command) {
    case 0: publish(queue, numbers[0], numbers[1], numbers[2]); break;
    case 1: publish_bulk(queue, numbers[0], numbers[1], numbers[2]); break;
    case 2: consume(queue, numbers[0], (int)numbers[1], numbers[2]); break;
    case 3: confirm(queue, numbers[0], numbers[1]); break;
    case 4: serve(queue);
    case 5: call(queue, numbers[0], numbers[1]); break;
    }
    disconnect();
    return 0;
}
