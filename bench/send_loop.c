/* The bare send loop: what fan-out costs when nothing is done but accept, parse a little, and send().
 *
 *   send_loop PORT
 *
 * GET opens a stream, POST sends its body as one chunked event to every stream. No topics, no authentication, no
 * history: it is the limit the others are held against, not a server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 20000, SIZE = 128 * 1024, STALL_MS = 1000 };

static int streams[MAX_FD], place[MAX_FD], n_streams;
static char in[SIZE], frame[SIZE + 256];

static void leave(int fd) {
    if (place[fd]) {
        int last = streams[--n_streams];
        streams[place[fd] - 1] = last;
        place[last] = place[fd];
        place[fd] = 0;
    }
    close(fd);
}

static void send_all(int fd, const char *from, size_t size) {
    while (size) {
        ssize_t n = send(fd, from, size, MSG_NOSIGNAL);
        if (n > 0) {
            from += n;
            size -= (size_t)n;
            continue;
        }
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        if (errno != EAGAIN || poll(&room, 1, STALL_MS) != 1)
            return;
    }
}

static void fan_out(const char *data, size_t size) {
    static unsigned long number;
    char head[128];
    int n = snprintf(head, sizeof head, "id: sendloop-%lu\ntopic: common\ndata: ", ++number);
    int start = sprintf(frame, "%zx\r\n", (size_t)n + size + 2);
    char *to = mempcpy(frame + start, head, (size_t)n);
    to = mempcpy(to, data, size);
    to = mempcpy(to, "\n\n\r\n", 4);
    for (int i = 0; i < n_streams; i++)
        send_all(streams[i], frame, (size_t)(to - frame));
}

static void serve(int fd) {
    static const char opening[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
                                  "Cache-Control: no-store\r\n\r\n5\r\n:hi\n\n\r\n";
    static const char done[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    ssize_t n = recv(fd, in, sizeof in - 1, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            leave(fd);
        return;
    }
    in[n] = 0;
    if (!strncmp(in, "GET", 3)) {
        if (!place[fd]) {
            streams[n_streams] = fd;
            place[fd] = ++n_streams;
        }
        send_all(fd, opening, sizeof opening - 1);
        return;
    }
    char *body = strstr(in, "\r\n\r\n"), *length = strcasestr(in, "\r\ncontent-length:");
    if (!body || !length) {
        leave(fd);
        return;
    }
    size_t size = (size_t)atoi(length + 17), have = (size_t)(in + n - (body + 4));
    while (have < size && have < SIZE - 8192) { /* only the large event comes in pieces */
        struct pollfd more = {.fd = fd, .events = POLLIN};
        if (poll(&more, 1, STALL_MS) != 1 || (n = recv(fd, body + 4 + have, size - have, 0)) <= 0)
            break;
        have += (size_t)n;
    }
    fan_out(body + 4, have);
    send_all(fd, done, sizeof done - 1);
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
        perror("send_loop");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            int fd;
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MAX_FD) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
