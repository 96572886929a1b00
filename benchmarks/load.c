// Sends requests over a number of connections, one after the other on each, and counts what comes back.
//
//     load PORT CONNECTIONS SECONDS < requests
//
// Standard input holds the requests, each after its length as a little-endian uint32. Answers need a Content-Length.
// Prints: answers, seconds, answers that were not 200, and the latencies at 50, 99 and 99.9 % in microseconds.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 20, MAX_CONNECTIONS = 1024, SLOWEST_US = 1 << 20 };

struct request { char *bytes; uint32_t length; };
struct connection { int fd; size_t n_read, n_wanted; double sent; char *answer; };

static struct request *requests;
static size_t n_requests, next_request;
static long n_done, n_bad;
static uint32_t latencies[SLOWEST_US + 1];

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void read_requests(void) {
    uint32_t length;
    size_t room = 0;
    while (fread(&length, sizeof length, 1, stdin) == 1) {
        if (n_requests == room && !(requests = realloc(requests, (room = room ? 2 * room : 1024) * sizeof *requests)))
            die("no memory");
        char *bytes = malloc(length);
        if (!bytes || fread(bytes, 1, length, stdin) != length) die("the requests are cut short");
        requests[n_requests++] = (struct request){bytes, length};
    }
    if (!n_requests) die("no requests");
}

static void send_next(struct connection *c) {
    struct request *request = &requests[next_request++ % n_requests];
    c->n_read = c->n_wanted = 0;
    c->sent = now();
    for (uint32_t done = 0; done < request->length;) {
        ssize_t n = send(c->fd, request->bytes + done, request->length - done, 0);
        if (n < 0) die("send");
        done += n;
    }
}

// Takes what has come; tells whether the answer is complete.
static int receive(struct connection *c) {
    ssize_t n = recv(c->fd, c->answer + c->n_read, ROOM - 1 - c->n_read, 0);
    if (n <= 0) die("the server closed a connection");
    c->n_read += n;
    c->answer[c->n_read] = 0;
    if (!c->n_wanted) {
        char *end = strstr(c->answer, "\r\n\r\n");
        if (!end) return 0;
        char *length = strcasestr(c->answer, "\r\ncontent-length:");
        if (!length || length > end) die("an answer without Content-Length");
        c->n_wanted = end + 4 - c->answer + strtoul(length + 17, NULL, 10);
        if (c->n_wanted >= ROOM) die("an answer that is too long");
    }
    return c->n_read >= c->n_wanted;
}

static double quantile(double share) {
    long wanted = n_done * share, so_far = 0;
    for (int us = 0; us <= SLOWEST_US; us++)
        if ((so_far += latencies[us]) > wanted) return us;
    return SLOWEST_US;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "load PORT CONNECTIONS SECONDS < requests\n"), 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int n = atoi(argv[2]), one = 1, epoll = epoll_create1(0);
    static struct connection connections[MAX_CONNECTIONS];
    if (n < 1 || n > MAX_CONNECTIONS) return fprintf(stderr, "load: 1 to %d connections\n", MAX_CONNECTIONS), 2;
    read_requests();
    for (int i = 0; i < n; i++) {
        struct connection *c = &connections[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!(c->answer = malloc(ROOM))) die("no memory");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll");
    }
    double begin = now(), end = begin + atof(argv[3]), at = begin;
    for (int i = 0; i < n; i++) send_next(&connections[i]);
    while (at < end) {
        struct epoll_event events[64];
        int n_ready = epoll_wait(epoll, events, 64, 1000);
        at = now();
        for (int i = 0; i < n_ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!receive(c)) continue;
            n_bad += strncmp(c->answer, "HTTP/1.1 200", 12) != 0;
            double us = (now() - c->sent) * 1e6;
            latencies[us < SLOWEST_US ? (int)us : SLOWEST_US]++;
            n_done++;
            send_next(c);
        }
    }
    printf("%ld %.6f %ld %.0f %.0f %.0f\n", n_done, at - begin, n_bad, quantile(.5), quantile(.99), quantile(.999));
    return 0;
}
