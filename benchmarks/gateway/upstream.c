// A mock OpenAI upstream: one thread, epoll, HTTP/1.1 with keep-alive, fixed answers with usage.
//
//   upstream --port N [--chunks 64] [--group 64] [--chunk-delay-us 0] [--first-us 0 --token-us 0]
//
// Not streamed: one JSON body of about 600 bytes. Streamed ("stream": true in the body): server-sent events, chunked.
//   --group G           without a delay, G events leave in one write(2)
//   --chunk-delay-us D  one event per write, D microseconds apart, the first at once
//   --first-us F --token-us T
//                       as a model would: the answer is as long as the request's max_tokens (or max_completion_tokens);
//                       a whole answer takes F + T * tokens, a stream's first event F and each further one T
// GET /count answers {"answers":…,"streams":…}: what was asked of it, so that nobody's cache passes for speed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 65536, INPUT = 256 * 1024, MAX_CHUNKS = 600 };

enum paced { NOTHING, WHOLE_ANSWER, STREAM };

typedef struct {
    int fd, generation;
    char *in;
    int in_n;
    char *out;
    int out_n, out_capacity;
    bool wants_out;
    enum paced paced;      // what the timer will send
    int next, last;        // stream: next event, number of events before [DONE]
    int64_t step_ns;
} Connection;

typedef struct { int64_t due; int fd, generation; } Timer;

static Connection connections[MAX_FD];
static Timer *heap;
static int heap_n, heap_capacity;
static int epoll_fd, chunks = 64, group = 64;
static long chunk_delay_us, first_us, token_us;
static long answers, streams;
static char answer[2048], stream_head[512];
static int answer_n, stream_head_n;
static struct { char *bytes; int n; } events[MAX_CHUNKS + 2];

#define HEAD "data: {\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion.chunk\"," \
    "\"created\":1760000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\"," \
    "\"system_fingerprint\":\"fp_mock\","

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static bool as_a_model(void) { return first_us || token_us; }

static void add_event(int index, const char *text) {
    char framed[4096];
    events[index].n = sprintf(framed, "%zx\r\n%s\r\n", strlen(text), text);
    events[index].bytes = malloc(events[index].n);
    memcpy(events[index].bytes, framed, events[index].n);
}

static void build(void) {
    const char *body =
        "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1760000000,"
        "\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"The quick brown fox jumps over the lazy dog while the gateway counts every token that passes through it.\","
        "\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":24,"
        "\"completion_tokens\":21,\"total_tokens\":45,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}},\"service_tier\":\"default\","
        "\"system_fingerprint\":\"fp_mock\"}";
    answer_n = sprintf(answer,
                       "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
                       "x-request-id: req_mock\r\n\r\n%s",
                       strlen(body), body);
    stream_head_n = sprintf(stream_head,
                            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                            "x-accel-buffering: no\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
    for (int i = 0; i < chunks; i++) {
        char text[2048], delta[64];
        const char *finish = i == chunks - 2 ? "\"stop\"" : "null";
        if (i == 0) sprintf(delta, "{\"role\":\"assistant\",\"content\":\"\"}");
        else if (i == chunks - 2) sprintf(delta, "{}");
        else sprintf(delta, "{\"content\":\" tok%d\"}", i);
        if (i == chunks - 1)
            sprintf(text, HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":62,"
                               "\"total_tokens\":86}}\n\n");
        else
            sprintf(text, HEAD "\"choices\":[{\"index\":0,\"delta\":%s,\"logprobs\":null,\"finish_reason\":%s}],"
                               "\"usage\":null}\n\n", delta, finish);
        add_event(i, text);
    }
    add_event(chunks, "data: [DONE]\n\n");
    events[chunks + 1].bytes = strdup("0\r\n\r\n");
    events[chunks + 1].n = 5;
}

static void drop(Connection *c) {
    close(c->fd);
    c->fd = -1;
    c->generation++;
    c->in_n = c->out_n = 0;
    c->paced = NOTHING;
    c->wants_out = false;
}

static void watch(Connection *c, bool output) {
    struct epoll_event wanted = {.events = EPOLLIN | (output ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &wanted);
    c->wants_out = output;
}

static bool put(Connection *c, const char *bytes, int n) {
    if (c->out_n == 0) {
        int written = write(c->fd, bytes, n);
        if (written == n) return true;
        if (written < 0) {
            if (errno != EAGAIN) return false;
            written = 0;
        }
        bytes += written;
        n -= written;
    }
    if (c->out_n + n > c->out_capacity) {
        c->out_capacity = (c->out_n + n) * 2;
        c->out = realloc(c->out, c->out_capacity);
    }
    memcpy(c->out + c->out_n, bytes, n);
    c->out_n += n;
    if (!c->wants_out) watch(c, true);
    return true;
}

static void after(Connection *c, int64_t due) {
    if (heap_n == heap_capacity) {
        heap_capacity = heap_capacity ? heap_capacity * 2 : 1024;
        heap = realloc(heap, heap_capacity * sizeof *heap);
    }
    int i = heap_n++;
    for (; i && heap[(i - 1) / 2].due > due; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = (Timer){due, c->fd, c->generation};
}

static Timer soonest(void) {
    Timer first = heap[0], last = heap[--heap_n];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= heap_n) break;
        if (child + 1 < heap_n && heap[child + 1].due < heap[child].due) child++;
        if (heap[child].due >= last.due) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return first;
}

// Which prepared event stands for number i of `last`: role first, finish and usage at the end, tokens in between.
static int event_of(int i, int last) {
    if (i == 0) return 0;
    if (i >= last - 2) return chunks - (last - i);
    return 1 + (i - 1) % (chunks - 3);
}

static bool answer_requests(Connection *c);

static bool paced_step(Connection *c, int64_t due) {
    if (c->paced == WHOLE_ANSWER) {
        c->paced = NOTHING;
        return put(c, answer, answer_n) && answer_requests(c);
    }
    if (c->next == 0 && !put(c, stream_head, stream_head_n)) return false;
    int index = event_of(c->next++, c->last);
    if (!put(c, events[index].bytes, events[index].n)) return false;
    if (c->next < c->last) {
        after(c, due + c->step_ns);
        return true;
    }
    c->paced = NOTHING;
    char end[64];
    memcpy(end, events[chunks].bytes, events[chunks].n);
    memcpy(end + events[chunks].n, events[chunks + 1].bytes, events[chunks + 1].n);
    return put(c, end, events[chunks].n + events[chunks + 1].n) && answer_requests(c);
}

static bool begin_stream(Connection *c, long tokens) {
    streams++;
    if (as_a_model() || chunk_delay_us) {
        c->paced = STREAM;
        c->next = 0;
        c->last = as_a_model() ? (int)tokens + 3 : chunks;
        c->step_ns = (as_a_model() ? token_us : chunk_delay_us) * 1000LL;
        int64_t due = now() + (as_a_model() ? first_us * 1000LL : 0);
        if (as_a_model()) after(c, due);
        else return paced_step(c, due);
        return true;
    }
    static char bytes[1 << 20];
    int n = stream_head_n;
    memcpy(bytes, stream_head, n);
    for (int i = 0; i < chunks + 2; i++) {
        memcpy(bytes + n, events[i].bytes, events[i].n);
        n += events[i].n;
        if ((i + 1) % group == 0 && i < chunks - 1) {
            if (!put(c, bytes, n)) return false;
            n = 0;
        }
    }
    return !n || put(c, bytes, n);
}

static bool begin_answer(Connection *c, long tokens) {
    answers++;
    if (!as_a_model()) return put(c, answer, answer_n);
    c->paced = WHOLE_ANSWER;
    after(c, now() + (first_us + token_us * tokens) * 1000LL);
    return true;
}

static bool count_answer(Connection *c) {
    char body[128], bytes[320];
    int n = sprintf(body, "{\"answers\":%ld,\"streams\":%ld}", answers, streams);
    n = sprintf(bytes, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
    return put(c, bytes, n);
}

// The value after `"name" :` in the body, or NULL.
static const char *value_of(const char *body, int n, const char *name) {
    const char *end = body + n, *at = memmem(body, n, name, strlen(name));
    if (!at) return NULL;
    at += strlen(name);
    while (at < end && (*at == ' ' || *at == ':')) at++;
    return at < end ? at : NULL;
}

static bool answer_one(Connection *c, const char *request, int head_n, int total) {
    if (!strncmp(request, "GET /count", 10)) return count_answer(c);
    const char *body = request + head_n, *stream = value_of(body, total - head_n, "\"stream\"");
    const char *tokens = value_of(body, total - head_n, "\"max_tokens\"");
    if (!tokens) tokens = value_of(body, total - head_n, "\"max_completion_tokens\"");
    long wanted = tokens ? atol(tokens) : 1;
    if (wanted < 1) wanted = 1;
    bool streamed = stream && request + total - stream >= 4 && !memcmp(stream, "true", 4);
    return streamed ? begin_stream(c, wanted) : begin_answer(c, wanted);
}

static bool answer_requests(Connection *c) {
    while (c->paced == NOTHING && c->in_n) {
        char *end = memmem(c->in, c->in_n, "\r\n\r\n", 4);
        if (!end) return c->in_n < INPUT;
        int head_n = end - c->in + 4, total;
        long length = 0;
        bool chunked = false;
        for (char *line = c->in; line < end;) {
            char *stop = memchr(line, '\r', end + 2 - line);
            if (!stop) break;
            if (stop - line > 15 && !strncasecmp(line, "content-length:", 15)) length = atol(line + 15);
            else if (stop - line > 18 && !strncasecmp(line, "transfer-encoding:", 18)) {
                if (memmem(line, stop - line, "chunked", 7)) chunked = true;
            } else if (stop - line > 7 && !strncasecmp(line, "expect:", 7) && c->in_n == head_n) {
                put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
            }
            line = stop + 2;
        }
        if (chunked) {
            char *last = memmem(c->in + head_n - 2, c->in_n - head_n + 2, "\r\n0\r\n\r\n", 7);
            if (!last) return c->in_n < INPUT;
            total = last + 7 - c->in;
        } else total = head_n + length;
        if (total > INPUT) return false;
        if (c->in_n < total) return true;
        bool sent = answer_one(c, c->in, head_n, total);
        memmove(c->in, c->in + total, c->in_n - total);
        c->in_n -= total;
        if (!sent) return false;
    }
    return true;
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Connection *c = &connections[fd];
        c->fd = fd;
        c->generation++;
        if (!c->in) c->in = malloc(INPUT + 8);
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &wanted);
    }
}

static void serve(Connection *c, uint32_t ready) {
    if (ready & EPOLLOUT && c->out_n) {
        int written = write(c->fd, c->out, c->out_n);
        if (written > 0) {
            memmove(c->out, c->out + written, c->out_n - written);
            c->out_n -= written;
        }
        if (!c->out_n && c->wants_out) watch(c, false);
    }
    if (!(ready & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    int got = read(c->fd, c->in + c->in_n, INPUT - c->in_n);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) c->in_n += got;
    if (got <= 0 || !answer_requests(c)) drop(c);
}

static int listening(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) {
        perror("bind");
        exit(1);
    }
    return listener;
}

static int options(int argc, char **argv) {
    static const struct option known[] = {{"port", 1, 0, 'p'},      {"chunks", 1, 0, 'c'},   {"group", 1, 0, 'g'},
                                          {"chunk-delay-us", 1, 0, 'd'}, {"first-us", 1, 0, 'f'}, {"token-us", 1, 0, 't'},
                                          {0, 0, 0, 0}};
    int port = 0;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'p') port = atoi(optarg);
        else if (option == 'c') chunks = atoi(optarg);
        else if (option == 'g') group = atoi(optarg);
        else if (option == 'd') chunk_delay_us = atol(optarg);
        else if (option == 'f') first_us = atol(optarg);
        else if (option == 't') token_us = atol(optarg);
        else exit(2);
    }
    if (!port || chunks < 4 || chunks > MAX_CHUNKS || group < 1) {
        fprintf(stderr, "upstream: --port is needed; --chunks is 4 to %d, --group at least 1\n", MAX_CHUNKS);
        exit(2);
    }
    return port;
}

int main(int argc, char **argv) {
    int port = options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    build();
    int listener = listening(port);
    epoll_fd = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[512];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        struct timespec rest, *timeout = NULL;
        if (heap_n) {
            int64_t left = heap[0].due - now();
            if (left < 0) left = 0;
            rest = (struct timespec){left / 1000000000LL, left % 1000000000LL};
            timeout = &rest;
        }
        int n = epoll_pwait2(epoll_fd, ready, 512, timeout, NULL);
        if (n < 0 && errno != EINTR) {
            perror("epoll");
            return 1;
        }
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) accept_all(listener);
            else if (connections[fd].fd >= 0) serve(&connections[fd], ready[i].events);
        }
        while (heap_n && heap[0].due <= now()) {
            Timer timer = soonest();
            Connection *c = &connections[timer.fd];
            if (c->fd >= 0 && c->generation == timer.generation && c->paced != NOTHING && !paced_step(c, timer.due))
                drop(c);
        }
    }
}
