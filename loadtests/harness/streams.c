/* Streams of server-sent events: a server that paces them and a client that times them.
 *
 * Each event carries when it was sent, on the clock that all processes of a machine share, and its
 * number; so the client knows every event's delay, and that none is missing. It is written in C so
 * that both take as little of a core as can be beside the proxy that is measured.
 *
 *   streams serve PORT                          an event every 20 ms on each stream
 *   streams read PORT STREAMS WARM_UP SECONDS   prints MEASURING, END, and RESULT {...}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    descriptors_max = 8192,
    input_max = 16384,
    events_max = 1024,
    problems_max = 5,
    slots = 20, /* streams are spread over the interval, a millisecond apart */
    time_digits = 19,
    number_digits = 7,
};
static const int64_t slot_ns = 20000000 / slots;

#define LEAD                                                                                       \
    "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":0,"             \
    "\"model\":\"river\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" water\"},"            \
    "\"finish_reason\":null}],\"t\":"
#define TIME_MARK "\"t\":"
#define NUMBER_MARK ",\"n\":"
#define DONE "data: [DONE]\n\n"
#define HEAD                                                                                       \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"            \
    "transfer-encoding: chunked\r\n\r\n"
static const size_t stamp_bytes =
    sizeof TIME_MARK - 1 + time_digits + sizeof NUMBER_MARK - 1 + number_digits;

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "streams: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Waits for events until `deadline` at most; returns their number. */
static int wait_until(int poll, struct epoll_event *events, int64_t deadline) {
    int64_t left = deadline - now_ns();
    if (left < 0) left = 0;
    struct timespec time = {left / 1000000000, left % 1000000000};
    int count = epoll_pwait2(poll, events, events_max, &time, NULL);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2");
    return count < 0 ? 0 : count;
}

static void watch(int poll, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
}

static void put_digits(char *end, int count, uint64_t value) {
    while (count-- > 0) {
        *--end = (char)('0' + value % 10);
        value /= 10;
    }
}

/* The server ---------------------------------------------------------------------------------- */

struct connection {
    char *input;
    size_t count;
    long sent, wanted; /* events of the stream under way */
    int slot;          /* -1 without a stream */
};

static struct connection connections[descriptors_max];
static int wheel[slots][descriptors_max];
static int wheel_counts[slots];
/* One chunk with one event, stamped anew each time; behind it the end of a stream. */
static char chunk[512];
static size_t chunk_bytes, time_end, number_end, last_bytes;

static void prepare_chunk(void) {
    char event[400];
    int count = snprintf(event, sizeof event, LEAD "%019d" NUMBER_MARK "%07d}\n\n", 0, 0);
    chunk_bytes = (size_t)snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", count, event);
    char *time = strstr(chunk, TIME_MARK);
    time_end = (size_t)(time - chunk) + sizeof TIME_MARK - 1 + time_digits;
    number_end = time_end + sizeof NUMBER_MARK - 1 + number_digits;
    last_bytes = (size_t)snprintf(chunk + chunk_bytes, sizeof chunk - chunk_bytes,
                                  "%zx\r\n" DONE "\r\n0\r\n\r\n", sizeof DONE - 1);
}

static void leave_wheel(int descriptor) {
    int slot = connections[descriptor].slot;
    if (slot < 0) return;
    for (int index = 0; index < wheel_counts[slot]; index++) {
        if (wheel[slot][index] != descriptor) continue;
        wheel[slot][index] = wheel[slot][--wheel_counts[slot]];
        break;
    }
    connections[descriptor].slot = -1;
}

static void close_connection(int descriptor) {
    leave_wheel(descriptor);
    free(connections[descriptor].input);
    connections[descriptor].input = NULL;
    close(descriptor);
}

static void accept_all(int poll, int listener) {
    for (;;) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (descriptor < 0) return;
        if (descriptor >= descriptors_max) {
            close(descriptor);
            continue;
        }
        int on = 1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[descriptor] = (struct connection){.input = malloc(input_max), .slot = -1};
        watch(poll, descriptor);
    }
}

static void begin_stream(int descriptor, const char *body) {
    struct connection *connection = &connections[descriptor];
    const char *tokens = strstr(body, "\"max_tokens\":");
    connection->sent = 0;
    connection->wanted = tokens ? strtol(tokens + 13, NULL, 10) : 1;
    if (send(descriptor, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL) < 0) {
        close_connection(descriptor);
        return;
    }
    int slot = 0;
    for (int index = 1; index < slots; index++)
        if (wheel_counts[index] < wheel_counts[slot]) slot = index;
    connection->slot = slot;
    wheel[slot][wheel_counts[slot]++] = descriptor;
}

static void read_request(int descriptor) {
    struct connection *connection = &connections[descriptor];
    ssize_t count = recv(descriptor, connection->input + connection->count,
                         input_max - 1 - connection->count, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        close_connection(descriptor);
        return;
    }
    connection->count += (size_t)count;
    connection->input[connection->count] = 0;
    char *end = strstr(connection->input, "\r\n\r\n");
    if (!end) return;
    char *field = strcasestr(connection->input, "\r\ncontent-length:");
    size_t length = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
    if (connection->count < (size_t)(end + 4 - connection->input) + length) return;
    connection->count = 0;
    begin_stream(descriptor, end + 4);
}

static void send_slot(int slot) {
    /* From the last to the first: who leaves is replaced by one that was served. */
    for (int index = wheel_counts[slot] - 1; index >= 0; index--) {
        int descriptor = wheel[slot][index];
        struct connection *connection = &connections[descriptor];
        put_digits(chunk + time_end, time_digits, (uint64_t)now_ns());
        put_digits(chunk + number_end, number_digits, (uint64_t)connection->sent++);
        bool is_last = connection->sent >= connection->wanted;
        size_t bytes = chunk_bytes + (is_last ? last_bytes : 0);
        if (is_last) leave_wheel(descriptor);
        /* Gone, or so far behind that its stream is of no use. */
        if (send(descriptor, chunk, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
            close_connection(descriptor);
    }
}

static void serve(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
    if (listen(listener, 4096) != 0) fail("listen");
    int poll = epoll_create1(0);
    watch(poll, listener);
    prepare_chunk();
    static struct epoll_event events[events_max];
    int64_t start = now_ns(), turn = 0;
    for (;;) {
        int count = wait_until(poll, events, start + turn * slot_ns);
        for (int index = 0; index < count; index++) {
            int descriptor = events[index].data.fd;
            if (descriptor == listener)
                accept_all(poll, listener);
            else if (connections[descriptor].input)
                read_request(descriptor);
        }
        /* Who is behind still reads requests once per interval. */
        for (int index = 0; index < slots && now_ns() >= start + turn * slot_ns; index++)
            send_slot((int)(turn++ % slots));
    }
}

/* The client ---------------------------------------------------------------------------------- */

struct stream {
    long expected; /* the number of the next event */
    bool is_open, has_head;
    size_t rest_count; /* bytes of the last read that may begin a stamp */
    char rest[64];
};

static struct stream streams[descriptors_max];
static int64_t *delays;
static size_t delays_count, delays_capacity;
static char problems[problems_max][120];
static int problems_count;

static void __attribute__((format(printf, 1, 2))) note(const char *format, ...) {
    if (problems_count == problems_max) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problems[problems_count++], sizeof problems[0], format, arguments);
    va_end(arguments);
}

static void keep(int64_t delay) {
    if (delays_count == delays_capacity) {
        delays_capacity = delays_capacity ? delays_capacity * 2 : 1 << 20;
        delays = realloc(delays, delays_capacity * sizeof *delays);
        if (!delays) fail("realloc");
    }
    delays[delays_count++] = delay;
}

static int64_t digits(const char *text, int count) {
    int64_t value = 0;
    while (count-- > 0) value = value * 10 + (*text++ - '0');
    return value;
}

static void take(int descriptor) {
    static char data[input_max + 64];
    struct stream *stream = &streams[descriptor];
    memcpy(data, stream->rest, stream->rest_count);
    ssize_t got = recv(descriptor, data + stream->rest_count, input_max, 0);
    int64_t now = now_ns();
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        note("a stream ended early");
        return;
    }
    size_t count = stream->rest_count + (size_t)got;
    if (!stream->has_head && count >= 12) {
        if (memcmp(data, "HTTP/1.1 200", 12) != 0) note("an answer began with another status");
        stream->has_head = true;
    }
    const char *at = data, *end = data + count, *done = data;
    while ((at = memmem(at, (size_t)(end - at), TIME_MARK, sizeof TIME_MARK - 1)) &&
           (size_t)(end - at) >= stamp_bytes) {
        const char *time = at + sizeof TIME_MARK - 1;
        const char *number = time + time_digits + sizeof NUMBER_MARK - 1;
        if (digits(number, number_digits) != stream->expected)
            note("event %ld of a stream is missing", stream->expected);
        stream->expected++;
        keep(now - digits(time, time_digits));
        at = done = number + number_digits;
    }
    size_t left = (size_t)(end - done);
    stream->rest_count = left < stamp_bytes ? left : stamp_bytes;
    memcpy(stream->rest, end - stream->rest_count, stream->rest_count);
}

static void read_until(int poll, int64_t deadline) {
    static struct epoll_event events[events_max];
    while (now_ns() < deadline && problems_count == 0) {
        int count = wait_until(poll, events, deadline);
        for (int index = 0; index < count; index++) take(events[index].data.fd);
    }
}

static int by_size(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t quantile(double share) {
    return delays_count ? delays[(size_t)((double)(delays_count - 1) * share)] : 0;
}

static void read_streams(int port, int count, double warm_up, double seconds) {
    int poll = epoll_create1(0);
    char body[200], request[512];
    int body_bytes = snprintf(body, sizeof body,
                              "{\"model\": \"river\", \"stream\": true, \"max_tokens\":1000000, "
                              "\"messages\": [{\"role\": \"user\", \"content\": \"How deep?\"}]}");
    int bytes = snprintf(request, sizeof request,
                         "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                         "content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                         body_bytes, body);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int index = 0; index < count; index++) {
        int descriptor = socket(AF_INET, SOCK_STREAM, 0);
        if (descriptor < 0 || descriptor >= descriptors_max) fail("socket");
        if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
        if (send(descriptor, request, (size_t)bytes, MSG_NOSIGNAL) != bytes) fail("send");
        fcntl(descriptor, F_SETFL, O_NONBLOCK);
        watch(poll, descriptor);
        streams[descriptor].is_open = true;
    }
    read_until(poll, now_ns() + (int64_t)(warm_up * 1e9));
    delays_count = 0;
    printf("MEASURING\n");
    fflush(stdout);
    int64_t start = now_ns();
    read_until(poll, start + (int64_t)(seconds * 1e9));
    double elapsed = (double)(now_ns() - start) / 1e9;
    printf("END\n");
    fflush(stdout);
    qsort(delays, delays_count, sizeof *delays, by_size);
    int silent = 0;
    for (int descriptor = 0; descriptor < descriptors_max; descriptor++)
        silent += streams[descriptor].is_open && streams[descriptor].expected == 0;
    printf("RESULT {\"events\": %zu, \"seconds\": %.6f, \"p50\": %.9f, \"p99\": %.9f, "
           "\"silent\": %d, \"problems\": [",
           delays_count, elapsed, (double)quantile(0.5) / 1e9, (double)quantile(0.99) / 1e9,
           silent);
    for (int index = 0; index < problems_count; index++)
        printf("%s\"%s\"", index ? ", " : "", problems[index]);
    printf("]}\n");
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "serve") == 0) {
        serve(atoi(arguments[2]));
    } else if (count == 6 && strcmp(arguments[1], "read") == 0) {
        read_streams(atoi(arguments[2]), atoi(arguments[3]), atof(arguments[4]),
                     atof(arguments[5]));
    } else {
        fprintf(stderr, "usage: streams serve PORT | read PORT STREAMS WARM_UP SECONDS\n");
        return 2;
    }
    return 0;
}
