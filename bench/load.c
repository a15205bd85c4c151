/* The load generator: opens streams, publishes over HTTP, and checks every event of every stream.
 *
 *   load HOST PORT[,PORT...] [tls]
 *
 * Streams are spread over the ports in turn; what is published goes to the first. One thread, one epoll. It reads
 * one command per line and answers each with one line of JSON, see command().
 * Every event carries a marker `~SSNNNNNNNNTTTTTTTTTTTTTTTTDDDDDD!` (hex): source, number within the source, the
 * monotonic nanosecond it was sent at, and the one stream it is for (ffffff: all). A source is whatever keeps an
 * order: a publisher on the common topic, one of the mosaic topics, or a stream's private topic. A stream expects
 * the numbers of each of its sources without hole, repetition or disorder, across reconnects too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PUBLISHERS = 32, MOSAIC = 24, PRIVATE = PUBLISHERS + MOSAIC, SOURCES = PRIVATE + 1 };
enum { MARK = 34, CARRY = 192, READ_SIZE = 256 * 1024, EVENT_SIZE = 100, MAX_BODY = 512 * 1024 };
enum { MAX_STREAMS = 20000, ADDRESSES = 16, BUCKETS = 1024, STEPS = 16, HUBS = 4, FEW = 16 };
enum { EVERYBODY = 0xffffff, SECOND = 1000000000, NAP = 250000 };
enum state { NEW, CONNECTING, SHAKING, ASKED, LIVE, GONE };

struct wire {
    int fd;
    SSL *ssl;
};

struct stream {
    struct wire wire;
    enum state state;
    int carried, seen;
    uint64_t reads; /* bit per source */
    char *path, *headers, *topic;
    char last_id[96], marked_id[96];
    char carry[CARRY];
    uint32_t next[SOURCES], marked[SOURCES];
};

struct publisher {
    struct wire wire;
    int busy, filled, source, dest, size;
    uint32_t number;
    int64_t since; /* when this event was first sent */
    int64_t again; /* when a refused event may be sent again */
    char answer[4096];
};

static struct stream *streams;
static int n_streams, n_live, n_pending;
static struct publisher publishers[PUBLISHERS];
static uint32_t published[SOURCES], *published_to;
static uint32_t claimed[SOURCES], *claimed_to;
static char *template, common[64] = "common", mosaic[64] = "mosaic";
static struct sockaddr_in targets[HUBS];
static int n_hubs;
static SSL_CTX *tls;
static int poller;
static char *buffer, *request, *data;

/* Latencies: of events by the hub that delivered them, and of POSTs or probes. */
struct spread {
    uint64_t buckets[BUCKETS], taken, max;
};
static struct {
    uint64_t received, missed, repeated, malformed, foreign, bytes, reads, closed, failed, refused, errors, late, acked;
    struct spread all, hub[HUBS], posts;
} count;
static char first_failure[240];

/* What is being published: nothing (interval < 0), at a fixed interval, or flat out (0). */
static int64_t interval = -1, due;
static uint64_t remaining, turn;
static int width = 1;
static enum { COMMON, MOSAICS, PRIVATES } mode;

/* The probe: one GET at a fixed interval, for the latency of other requests. */
static struct publisher probe = {.wire = {-1, NULL}};
static char *probe_path;
static int64_t probe_interval = -1, probe_due, probe_sent;

static int64_t now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void failed(const char *text, size_t size) {
    count.failed++;
    if (first_failure[0])
        return;
    size_t n = size < sizeof first_failure - 1 ? size : sizeof first_failure - 1;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        first_failure[i] = c < 32 || c > 126 || c == '"' || c == '\\' ? ' ' : c;
    }
}

/* ---- sockets ------------------------------------------------------------------------------------------------ */

static ssize_t wire_read(struct wire *w, char *to, size_t size) {
    if (!w->ssl)
        return read(w->fd, to, size);
    size_t done = 0;
    while (done < size) {
        int n = SSL_read(w->ssl, to + done, (int)(size - done));
        if (n <= 0) {
            if (done)
                break;
            int why = SSL_get_error(w->ssl, n);
            errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
            return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* Requests are small; a large one waits for room, which only the 64 KiB event ever does. */
static int wire_write(struct wire *w, const char *from, size_t size) {
    for (int tries = 0; size && tries < 5000; tries++) {
        ssize_t n = w->ssl ? SSL_write(w->ssl, from, (int)size) : send(w->fd, from, size, MSG_NOSIGNAL);
        if (n > 0) {
            from += n;
            size -= (size_t)n;
        } else if (w->ssl ? SSL_get_error(w->ssl, (int)n) <= SSL_ERROR_SSL : errno != EAGAIN) {
            return -1;
        } else {
            usleep(200);
        }
    }
    return size ? -1 : 0;
}

static void wire_close(struct wire *w) {
    if (w->ssl) {
        SSL_free(w->ssl);
        w->ssl = NULL;
    }
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

/* Source addresses differ, so that ephemeral ports suffice for 15,000 streams and their TIME_WAIT. */
static int start_connect(struct wire *w, int index, const struct sockaddr_in *target) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(index % ADDRESSES));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
        die("bind");
    w->fd = fd;
    w->ssl = NULL;
    if (connect(fd, (const struct sockaddr *)target, sizeof *target) < 0 && errno != EINPROGRESS) {
        wire_close(w);
        return -1;
    }
    if (tls) {
        w->ssl = SSL_new(tls);
        SSL_set_fd(w->ssl, fd);
        SSL_set_connect_state(w->ssl);
    }
    return 0;
}

static void watch(int fd, uint32_t events, uint64_t what, int op) {
    struct epoll_event event = {.events = events, .data.u64 = what};
    if (epoll_ctl(poller, op, fd, &event) < 0)
        die("epoll_ctl");
}

/* ---- streams ------------------------------------------------------------------------------------------------ */

static void end_stream(struct stream *s) {
    if (s->state == LIVE)
        n_live--;
    else if (s->state != NEW && s->state != GONE)
        n_pending--;
    wire_close(&s->wire);
    s->state = GONE;
}

static void begin_stream(int i) {
    struct stream *s = &streams[i];
    if (!s->seen) {
        memcpy(s->next, published, sizeof published);
        s->next[PRIVATE] = published_to[i];
        s->seen = 1;
    }
    s->carried = 0;
    if (start_connect(&s->wire, i, &targets[i % n_hubs]) < 0) {
        s->state = GONE;
        failed("connect", 7);
        return;
    }
    s->state = CONNECTING;
    n_pending++;
    watch(s->wire.fd, EPOLLOUT, (uint64_t)i, EPOLL_CTL_ADD);
}

static void ask(int i) {
    struct stream *s = &streams[i];
    int n = snprintf(request, MAX_BODY,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s%s%s%s\r\n", s->path,
                     ntohs(targets[i % n_hubs].sin_port), s->headers, s->last_id[0] ? "Last-Event-ID: " : "",
                     s->last_id, s->last_id[0] ? "\r\n" : "");
    s->state = ASKED;
    watch(s->wire.fd, EPOLLIN, (uint64_t)i, EPOLL_CTL_MOD);
    if (wire_write(&s->wire, request, (size_t)n) < 0) {
        failed("request", 7);
        end_stream(s);
    }
}

static void connected(int i) {
    struct stream *s = &streams[i];
    if (s->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(s->wire.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            failed(strerror(error), strlen(strerror(error)));
            end_stream(s);
            return;
        }
        s->state = s->wire.ssl ? SHAKING : ASKED;
        if (s->state == ASKED) {
            ask(i);
            return;
        }
    }
    int done = SSL_do_handshake(s->wire.ssl);
    if (done == 1) {
        ask(i);
        return;
    }
    int why = SSL_get_error(s->wire.ssl, done);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        watch(s->wire.fd, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT, (uint64_t)i, EPOLL_CTL_MOD);
        return;
    }
    failed("TLS handshake", 13);
    end_stream(s);
}

static uint64_t hex(const char *p, int digits) {
    uint64_t value = 0;
    for (; digits; digits--, p++)
        value = value << 4 | (uint64_t)(*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
    return value;
}

static void note_latency(struct spread *to, int64_t ns) {
    uint64_t us = ns < 0 ? 0 : (uint64_t)ns / 1000;
    if (us > to->max)
        to->max = us;
    unsigned bucket = (unsigned)us;
    if (us >= STEPS) {
        int shift = 63 - __builtin_clzll(us) - 4;
        bucket = (unsigned)(STEPS * (shift + 1)) + (unsigned)((us >> shift) - STEPS);
    }
    to->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    to->taken++;
}

static double quantile(const struct spread *of, double share) {
    uint64_t sum = 0;
    for (int i = 0; i < BUCKETS && of->taken; i++) {
        sum += of->buckets[i];
        if ((double)sum >= share * (double)of->taken) {
            double top = i < STEPS ? i + 1 : (double)((uint64_t)(i % STEPS + STEPS + 1) << (i / STEPS - 1));
            return (top < (double)of->max ? top : (double)of->max) / 1000.0;
        }
    }
    return 0.0;
}

static void take(struct stream *s, const char *mark, int64_t at) {
    unsigned source = (unsigned)hex(mark + 1, 2);
    uint32_t number = (uint32_t)hex(mark + 3, 8);
    unsigned dest = (unsigned)hex(mark + 27, 6);
    if (mark[33] != '!' || source >= SOURCES) {
        count.malformed++;
        return;
    }
    if (!(s->reads >> source & 1) || (dest != EVERYBODY && dest != (unsigned)(s - streams))) {
        count.foreign++;
        return;
    }
    if (number < s->next[source]) {
        count.repeated++;
        return;
    }
    count.missed += number - s->next[source];
    s->next[source] = number + 1;
    count.received++;
    int64_t took = at - (int64_t)hex(mark + 11, 16);
    note_latency(&count.all, took);
    note_latency(&count.hub[(s - streams) % n_hubs], took);
}

/* The id of the newest whole id line; it may stand before or after the data. */
static void find_id(struct stream *s, const char *from, const char *end) {
    for (const char *line; (line = memrchr(from, '\n', (size_t)(end - from))); end = line) {
        const char *p = line + 1;
        if (end - p < 4 || memcmp(p, "id:", 3))
            continue;
        p += p[3] == ' ' ? 4 : 3;
        size_t size = (size_t)(end - p);
        if (size && p[size - 1] == '\r')
            size--;
        if (size < sizeof s->last_id) {
            memcpy(s->last_id, p, size);
            s->last_id[size] = 0;
        }
        return;
    }
}

static void readable(int i) {
    struct stream *s = &streams[i];
    memcpy(buffer, s->carry, (size_t)s->carried);
    ssize_t n = wire_read(&s->wire, buffer + s->carried, READ_SIZE);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (s->state == LIVE)
            count.closed++;
        else
            failed("closed without an answer", 24);
        end_stream(s);
        return;
    }
    if (s->state == ASKED) {
        if (n < 12 || memcmp(buffer + 8, " 200", 4)) {
            failed(buffer, (size_t)n);
            end_stream(s);
            return;
        }
        s->state = LIVE;
        n_pending--;
        n_live++;
    }
    count.bytes += (uint64_t)n;
    count.reads++;
    int64_t at = now();
    const char *p = buffer, *end = buffer + s->carried + n, *mark;
    const char *whole = memrchr(buffer, '\n', (size_t)(end - buffer));
    while ((mark = memchr(p, '~', (size_t)(end - p))) && end - mark >= MARK) {
        take(s, mark, at);
        p = mark + MARK;
    }
    if (whole)
        find_id(s, buffer, whole);
    if (end - p > CARRY)
        p = end - CARRY;
    s->carried = (int)(end - p);
    memcpy(s->carry, p, (size_t)s->carried);
}

static void drop_from(int first) {
    for (int i = first; i < n_streams; i++)
        if (streams[i].state != NEW)
            end_stream(&streams[i]);
}

/* How many events the open streams still lack of those that were acknowledged. */
static uint64_t behind(void) {
    uint64_t sum = 0, used = 0;
    for (int source = 0; source < PRIVATE; source++)
        used |= (uint64_t)(published[source] > 0) << source;
    for (int i = 0; i < n_streams; i++) {
        struct stream *s = &streams[i];
        if (!s->seen)
            continue;
        for (uint64_t left = s->reads & used; left; left &= left - 1) {
            int source = __builtin_ctzll(left);
            if (published[source] > s->next[source])
                sum += published[source] - s->next[source];
        }
        if (s->reads >> PRIVATE & 1 && published_to[i] > s->next[PRIVATE])
            sum += published_to[i] - s->next[PRIVATE];
    }
    return sum;
}

/* ---- publishing --------------------------------------------------------------------------------------------- */

static uint64_t publisher_tag(struct publisher *p) {
    return p == &probe ? (uint64_t)MAX_STREAMS + PUBLISHERS : (uint64_t)MAX_STREAMS + (uint64_t)(p - publishers);
}

static int reach(struct publisher *p) {
    if (p->wire.fd >= 0)
        return 0;
    if (start_connect(&p->wire, (int)(p - publishers) & 3, targets) < 0)
        return -1;
    int64_t limit = now() + 5LL * SECOND;
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    while (getpeername(p->wire.fd, (struct sockaddr *)&peer, &size) < 0 && now() < limit)
        usleep(200);
    while (p->wire.ssl && SSL_do_handshake(p->wire.ssl) != 1 && now() < limit)
        usleep(200);
    watch(p->wire.fd, EPOLLIN, publisher_tag(p), EPOLL_CTL_ADD);
    return now() < limit ? 0 : -1;
}

static char *expand(char *to, const char *from, const char *end, const char *topic, const char *text, size_t size) {
    while (from < end) {
        if (!strncmp(from, "%TOPIC%", 7)) {
            to = stpcpy(to, topic);
            from += 7;
        } else if (!strncmp(from, "%DATA%", 6)) {
            memcpy(to, text, size);
            to += size;
            from += 6;
        } else {
            *to++ = *from++;
        }
    }
    return to;
}

static void post(struct publisher *p) {
    char topic[96];
    if (p->source < PUBLISHERS)
        snprintf(topic, sizeof topic, "%s", common);
    else if (p->source < PRIVATE)
        snprintf(topic, sizeof topic, "%s%02d", mosaic, p->source - PUBLISHERS);
    else
        snprintf(topic, sizeof topic, "%s", streams[p->dest].topic);
    memset(data, 'x', (size_t)p->size);
    char mark[MARK + 1];
    snprintf(mark, sizeof mark, "~%02x%08x%016llx%06x!", p->source, p->number, (unsigned long long)now(), p->dest);
    memcpy(data, mark, MARK);
    const char *gap = strstr(template, "\n\n");
    static char body[MAX_BODY];
    size_t size = (size_t)(expand(body, gap + 2, gap + strlen(gap), topic, data, (size_t)p->size) - body);
    char *to = expand(request, template, gap, topic, data, (size_t)p->size);
    to += sprintf(to, "\nContent-Length: %zu\n\n", size);
    /* The template has bare line feeds. */
    static char head[8192];
    char *h = head;
    for (char *c = request; c < to; c++) {
        if (*c == '\n')
            *h++ = '\r';
        *h++ = *c;
    }
    memcpy(h, body, size);
    p->busy = 1;
    p->filled = 0;
    if (reach(p) < 0 || wire_write(&p->wire, head, (size_t)(h - head) + size) < 0) {
        count.errors++;
        wire_close(&p->wire);
        p->busy = 0;
        p->again = now() + SECOND / 10;
    }
}

/* Whether an answer is complete; the status is read elsewhere. */
static int answered(struct publisher *p) {
    p->answer[p->filled] = 0;
    char *body = strstr(p->answer, "\r\n\r\n");
    if (!body)
        return 0;
    body += 4;
    char *length = strcasestr(p->answer, "\r\ncontent-length:");
    if (length && length < body)
        return p->answer + p->filled >= body + atoi(length + 17);
    char *coding = strcasestr(p->answer, "\r\ntransfer-encoding: chunked");
    return !coding || coding > body || strstr(body, "0\r\n\r\n") != NULL;
}

static void settled(struct publisher *p) {
    int status = p->filled > 12 ? atoi(p->answer + 9) : 0;
    p->busy = 0;
    if (strcasestr(p->answer, "\r\nconnection: close"))
        wire_close(&p->wire);
    if (p == &probe) {
        int64_t t = now();
        if (status == 200)
            note_latency(&count.all, t - probe_sent);
        else
            count.errors++;
        /* Those that were due while this one waited would have waited too: else one long stall is one sample. */
        for (; probe_due < t; probe_due += probe_interval)
            if (status == 200)
                note_latency(&count.all, t - probe_due);
        return;
    }
    if (status / 100 == 2) {
        uint32_t *done = p->source == PRIVATE ? &published_to[p->dest] : &published[p->source];
        *done = p->number + 1 > *done ? p->number + 1 : *done;
        count.acked++;
        note_latency(&count.posts, now() - p->since);
        p->number = UINT32_MAX;
        return;
    }
    if (status != 429 && status != 503) {
        count.errors++;
        failed(p->answer, (size_t)p->filled);
    } else {
        count.refused++;
    }
    p->again = now() + SECOND / 20;
}

static void publisher_readable(struct publisher *p) {
    if (p->filled > (int)sizeof p->answer - 2)
        p->filled = 0;
    ssize_t n = wire_read(&p->wire, p->answer + p->filled, sizeof p->answer - 1 - (size_t)p->filled);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        wire_close(&p->wire);
        if (p->busy) { /* nothing came: the server had closed it as idle, and the event is sent again as clients do */
            count.errors += p->filled > 0;
            p->busy = 0;
            p->again = now();
        }
        return;
    }
    p->filled += (int)n;
    if (answered(p))
        settled(p);
}

static int assign(struct publisher *p) {
    if (p->number != UINT32_MAX)
        return 1; /* refused before: the same event again */
    if (!remaining)
        return 0;
    int index = (int)(p - publishers);
    p->size = EVENT_SIZE;
    p->dest = EVERYBODY;
    if (mode == PRIVATES) {
        p->dest = (int)(turn * 7919 % (uint64_t)n_streams);
        p->source = PRIVATE;
        p->number = claimed_to[p->dest]++;
    } else {
        p->source = index;
        if (mode == MOSAICS) /* each publisher has topics of its own, so that there is an order to check */
            p->source = PUBLISHERS + index + width * (int)(turn / (uint64_t)width % (uint64_t)(MOSAIC / width));
        p->number = claimed[p->source]++;
    }
    p->since = now();
    turn++;
    remaining--;
    return 1;
}

static void publish_due(void) {
    int64_t t = now();
    for (int i = 0; i < PUBLISHERS; i++) /* what was refused comes first, even after publishing has stopped */
        if (!publishers[i].busy && publishers[i].number != UINT32_MAX && publishers[i].again <= t)
            post(&publishers[i]);
    if (interval < 0)
        return;
    for (int i = 0; i < width; i++) {
        struct publisher *p = &publishers[i];
        if (p->busy || p->number != UINT32_MAX)
            continue;
        if (interval) {
            if (due > t)
                return;
            if (t - due > interval)
                count.late++;
            due += interval;
            if (due < t - SECOND)
                due = t;
        }
        if (assign(p))
            post(p);
    }
}

static int publishing(void) {
    for (int i = 0; i < PUBLISHERS; i++)
        if (publishers[i].number != UINT32_MAX)
            return 1;
    return 0;
}

static void probe_when_due(void) {
    int64_t t = now();
    if (probe_interval < 0 || probe.busy || probe_due > t)
        return;
    probe_due = probe_due + probe_interval < t ? t + probe_interval : probe_due + probe_interval;
    if (reach(&probe) < 0) {
        count.errors++;
        return;
    }
    probe.busy = 1;
    probe.filled = 0;
    probe_sent = now();
    int n = snprintf(request, MAX_BODY, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", probe_path,
                     ntohs(targets[0].sin_port));
    if (wire_write(&probe.wire, request, (size_t)n) < 0) {
        count.errors++;
        probe.busy = 0;
        wire_close(&probe.wire);
    }
}

/* ---- the loop ----------------------------------------------------------------------------------------------- */

static void turn_once(void) {
    struct epoll_event events[512];
    publish_due();
    probe_when_due();
    int64_t t = now(), wait = 5000000;
    if (interval > 0 && due - t < wait)
        wait = due - t;
    if (probe_interval > 0 && !probe.busy && probe_due - t < wait)
        wait = probe_due - t;
    struct timespec timeout = {0, wait < 0 ? 0 : wait}, nap = {0, wait < 0 ? 0 : wait < NAP ? wait : NAP};
    static const struct timespec at_once = {0, 0};
    /* Asleep in epoll it would be woken by each send(), and the server would pay for that. Real clients are elsewhere. */
    int awake = probe_path || n_live + n_pending <= FEW; /* few streams: what counts is when a POST is answered */
    if (!awake)
        nanosleep(&nap, NULL);
    int n = epoll_pwait2(poller, events, 512, awake ? &timeout : &at_once, NULL);
    for (int k = 0; k < n; k++) {
        uint64_t tag = events[k].data.u64;
        if (tag == (uint64_t)MAX_STREAMS + PUBLISHERS)
            publisher_readable(&probe);
        else if (tag >= MAX_STREAMS)
            publisher_readable(&publishers[tag - MAX_STREAMS]);
        else if (streams[tag].state == CONNECTING || streams[tag].state == SHAKING)
            connected((int)tag);
        else if (streams[tag].state == ASKED || streams[tag].state == LIVE)
            readable((int)tag);
        if (k % 64 == 63) { /* do not let a full round of readers delay what is due */
            publish_due();
            probe_when_due();
        }
    }
}

static void answer(const char *format, ...) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    va_list list;
    va_start(list, format);
    printf("{\"cpu\": %.6f, \"clock\": %.6f, \"live\": %d", cpu, (double)now() / 1e9, n_live);
    vprintf(format, list);
    printf("}\n");
    fflush(stdout);
    va_end(list);
}

static char *slurp(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file)
        die(path);
    char *text = NULL;
    size_t size = 0;
    if (getdelim(&text, &size, 0, file) < 0)
        die(path);
    fclose(file);
    return text;
}

/* One stream per line: sources (hex mask), private topic, path, headers; separated by tabs. */
static void load_streams(const char *path) {
    char *text = slurp(path), *rest = NULL;
    n_streams = 0;
    for (char *line = strtok_r(text, "\n", &rest); line && n_streams < MAX_STREAMS; line = strtok_r(NULL, "\n", &rest)) {
        struct stream *s = &streams[n_streams++];
        memset(s, 0, sizeof *s);
        s->wire.fd = -1;
        s->reads = strtoull(strsep(&line, "\t"), NULL, 16);
        s->topic = strsep(&line, "\t");
        s->path = strsep(&line, "\t");
        char headers[4096] = "", *header;
        while ((header = strsep(&line, "\t")) && *header) {
            strncat(headers, header, sizeof headers - strlen(headers) - 3);
            strcat(headers, "\r\n");
        }
        s->headers = strdup(headers);
    }
    answer(", \"streams\": %d", n_streams);
}

static void open_streams(int upto, int at_once, double seconds) {
    int64_t start = now(), limit = start + (int64_t)(seconds * 1e9);
    int i = 0;
    upto = upto < n_streams ? upto : n_streams;
    while (now() < limit && (i < upto || n_pending)) {
        for (int burst = 0; i < upto && n_pending < at_once && burst < 64; i++, burst++)
            if (streams[i].state == NEW || streams[i].state == GONE)
                begin_stream(i);
        turn_once();
    }
    answer(", \"seconds\": %.6f, \"failed\": %llu, \"why\": \"%s\"", (double)(now() - start) / 1e9,
           (unsigned long long)count.failed, first_failure);
}

static void wait_for_all(double seconds) {
    int64_t start = now(), limit = start + (int64_t)(seconds * 1e9), look = 0;
    while (now() < limit) {
        turn_once();
        if (now() < look || publishing())
            continue;
        if (!behind())
            break;
        look = now() + 10000000;
    }
    answer(", \"seconds\": %.6f, \"behind\": %llu", (double)(now() - start) / 1e9, (unsigned long long)behind());
}

static void run_for(double seconds, int stop_when_done) {
    int64_t limit = now() + (int64_t)(seconds * 1e9);
    while (now() < limit && !(stop_when_done && !remaining && !publishing()))
        turn_once();
    answer(", \"acked\": %llu", (unsigned long long)count.acked);
}

/* Remember what every stream has, or have it forget what has come since, and come back from there. */
static void mark(int back) {
    for (int i = 0; i < n_streams; i++) {
        struct stream *s = &streams[i];
        memcpy(back ? s->last_id : s->marked_id, back ? s->marked_id : s->last_id, sizeof s->last_id);
        memcpy(back ? s->next : s->marked, back ? s->marked : s->next, sizeof s->next);
    }
    answer("");
}

/* The first so many live streams stop reading, or read again. */
static void stall(int upto, uint32_t events) {
    int done = 0;
    for (int i = 0; i < n_streams && done < upto; i++)
        if (streams[i].state == LIVE) {
            watch(streams[i].wire.fd, events, (uint64_t)i, EPOLL_CTL_MOD);
            done++;
        }
    answer(", \"streams\": %d", done);
}

/* Until the next command is there. */
static void attend(void) {
    struct pollfd more = {.fd = 0, .events = POLLIN};
    for (int64_t limit = now() + 600LL * SECOND; now() < limit && poll(&more, 1, 0) == 0;)
        turn_once();
    answer("");
}

static int spread_text(char *to, size_t size, const struct spread *of) {
    return snprintf(to, size, "{\"taken\": %llu, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}",
                    (unsigned long long)of->taken, quantile(of, 0.5), quantile(of, 0.99), (double)of->max / 1000.0);
}

static void stats(void) {
    char posts[128], hubs[HUBS * 128] = "";
    spread_text(posts, sizeof posts, &count.posts);
    for (int i = 0, used = 0; i < n_hubs; i++) {
        used += snprintf(hubs + used, sizeof hubs - (size_t)used, "%s", i ? ", " : "");
        used += spread_text(hubs + used, sizeof hubs - (size_t)used, &count.hub[i]);
    }
    answer(", \"received\": %llu, \"missed\": %llu, \"repeated\": %llu, \"malformed\": %llu, \"foreign\": %llu, "
           "\"bytes\": %llu, \"reads\": %llu, \"closed\": %llu, \"failed\": %llu, \"refused\": %llu, "
           "\"errors\": %llu, \"late\": %llu, \"acked\": %llu, \"behind\": %llu, \"p50\": %.3f, \"p99\": %.3f, "
           "\"max\": %.3f, \"posts\": %s, \"hubs\": [%s], \"why\": \"%s\"",
           (unsigned long long)count.received, (unsigned long long)count.missed, (unsigned long long)count.repeated,
           (unsigned long long)count.malformed, (unsigned long long)count.foreign, (unsigned long long)count.bytes,
           (unsigned long long)count.reads, (unsigned long long)count.closed, (unsigned long long)count.failed,
           (unsigned long long)count.refused, (unsigned long long)count.errors, (unsigned long long)count.late,
           (unsigned long long)count.acked, (unsigned long long)behind(), quantile(&count.all, 0.5),
           quantile(&count.all, 0.99), (double)count.all.max / 1000.0, posts, hubs, first_failure);
}

static void command(char *line) {
    char word[32] = "", a[512] = "", b[512] = "", c[512] = "", d[512] = "";
    sscanf(line, "%31s %511s %511s %511s %511s", word, a, b, c, d);
    if (!strcmp(word, "streams")) { /* FILE */
        load_streams(a);
    } else if (!strcmp(word, "template")) { /* FILE: request line, headers, blank line, body */
        template = slurp(a);
        answer("");
    } else if (!strcmp(word, "topics")) { /* COMMON MOSAIC-PREFIX */
        snprintf(common, sizeof common, "%s", a);
        snprintf(mosaic, sizeof mosaic, "%s", b);
        answer("");
    } else if (!strcmp(word, "open")) { /* UPTO AT-ONCE SECONDS */
        open_streams(atoi(a), atoi(b), atof(c));
    } else if (!strcmp(word, "drop")) { /* [FIRST]: that stream and all after it */
        drop_from(atoi(a));
        answer("");
    } else if (!strcmp(word, "forget")) { /* no stream has a history */
        for (int i = 0; i < n_streams; i++) {
            streams[i].seen = 0;
            streams[i].last_id[0] = 0;
        }
        answer("");
    } else if (!strcmp(word, "mark")) { /* [back] */
        mark(*a == 'b');
    } else if (!strcmp(word, "publish")) { /* PER-SECOND (0: flat out) EVENTS common|mosaic|private PUBLISHERS */
        double rate = atof(a);
        interval = rate > 0 ? (int64_t)(1e9 / rate) : 0;
        remaining = strtoull(b, NULL, 10);
        mode = *c == 'm' ? MOSAICS : *c == 'p' ? PRIVATES : COMMON;
        width = *d ? atoi(d) : 1;
        width = width < 1 ? 1 : width > PUBLISHERS ? PUBLISHERS : width;
        due = now();
        answer("");
    } else if (!strcmp(word, "quiet")) { /* publish no more */
        interval = -1;
        remaining = 0;
        answer("");
    } else if (!strcmp(word, "big")) { /* BYTES: one event of that size on the common topic */
        struct publisher *p = &publishers[0];
        for (int64_t limit = now() + SECOND; p->busy && now() < limit;)
            turn_once();
        p->source = 0;
        p->dest = EVERYBODY;
        p->size = atoi(a);
        p->number = claimed[0]++;
        p->again = 0;
        publish_due();
        answer("");
    } else if (!strcmp(word, "run")) { /* SECONDS [done]: with `done` until everything is published */
        run_for(atof(a), *b == 'd');
    } else if (!strcmp(word, "stall")) { /* COUNT */
        stall(atoi(a), 0);
    } else if (!strcmp(word, "wake")) { /* COUNT */
        stall(atoi(a), EPOLLIN);
    } else if (!strcmp(word, "wait")) { /* SECONDS at most, until every stream has everything */
        wait_for_all(atof(a));
    } else if (!strcmp(word, "probe")) { /* MILLISECONDS PATH */
        probe_interval = (int64_t)(atof(a) * 1e6);
        probe_path = strdup(b);
        probe_due = now();
        answer("");
    } else if (!strcmp(word, "attend")) {
        attend();
    } else if (!strcmp(word, "reset")) {
        memset(&count, 0, sizeof count);
        first_failure[0] = 0;
        answer("");
    } else if (!strcmp(word, "stats")) {
        stats();
    } else {
        fprintf(stderr, "load: unknown command: %s\n", line);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: load HOST PORT[,PORT...] [tls]\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (char *rest = NULL, *port = strtok_r(argv[2], ",", &rest); port && n_hubs < HUBS;
         port = strtok_r(NULL, ",", &rest)) {
        struct sockaddr_in *target = &targets[n_hubs++];
        target->sin_family = AF_INET;
        target->sin_port = htons((uint16_t)atoi(port));
        if (inet_pton(AF_INET, argv[1], &target->sin_addr) != 1)
            die(argv[1]);
    }
    if (!n_hubs) {
        fprintf(stderr, "load: no port\n");
        return 1;
    }
    if (argc > 3) {
        tls = SSL_CTX_new(TLS_client_method()); /* the certificate is made for the run and not checked */
        SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    }
    streams = calloc(MAX_STREAMS, sizeof *streams);
    published_to = calloc(MAX_STREAMS, sizeof *published_to);
    claimed_to = calloc(MAX_STREAMS, sizeof *claimed_to);
    buffer = malloc(READ_SIZE + CARRY);
    request = malloc(MAX_BODY);
    data = malloc(MAX_BODY);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < PUBLISHERS; i++)
        publishers[i] = (struct publisher){.wire = {-1, NULL}, .number = UINT32_MAX};
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        if (!strncmp(line, "quit", 4))
            break;
        command(line);
    }
    return 0;
}
