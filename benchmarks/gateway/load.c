// An HTTP/1.1 load client: one thread, epoll, keep-alive; prints one line of JSON, times in microseconds.
//
//   load --port N --path P [--key K] [--header "Name: value"]… [--stream] [--warm S] [--idle N] [--progress S] then
//     closed loop:  --body FILE --concurrency N (--seconds S | --requests N)
//                   each client asks again when its answer is complete
//     open loop:    --arrivals FILE --model NAME [--each FILE]
//                   lines "offset_us prompt_chars max_tokens": requests leave at these times whether or not earlier ones
//                   are answered, and latency counts from the scheduled time: what a stalled server kept waiting shows
//                   (coordinated omission). --each writes "latency_us first_us" per line, -1 -1 if it failed.
//   --idle N opens N more connections first, says nothing on them, and reports how many are still open at the end.
//   --progress S prints {"answered":n} every S seconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

enum { MAX_CONNECTIONS = 8192, HEAD = 16384, TAIL = 14, MAX_SAMPLES = 8000000, DRAIN_S = 60 };

enum state { UNUSED, RESTING, SENDING, READING_HEAD, SIZED_BODY, CHUNKED_BODY, BODY_TO_CLOSE };
enum chunk { CHUNK_SIZE, CHUNK_SIZE_END, CHUNK_DATA, CHUNK_END, LAST_CHUNK_END };

typedef struct {
    int fd;
    enum state state;
    bool reused, closes, has_usage, has_done;
    const char *out;       // closed loop: the one request; open loop: this connection's own copy
    char *own;
    int out_n, sent;
    long job;
    int64_t scheduled, first;
    char head[HEAD];
    int head_n, status;
    enum chunk chunk;
    long left, chunk_size, chunks, bytes;
    char tail[TAIL];       // the end of what was read last: a mark may straddle two reads
    int tail_n;
} Connection;

typedef struct { int64_t offset_us; long prompt_chars, max_tokens; } Arrival;

static Connection *connections;
static Connection **resting;
static int resting_n, opened;
static int epoll_fd, port, concurrency = 1, idle;
static double warm_s = 0, seconds = 5, progress_s;
static long wanted_requests;
static bool stream;
static const char *path = "/v1/chat/completions", *key, *model = "gpt-4o-mini", *body_file, *arrivals_file, *each_file;
static char headers[4096];
static char *request;
static int request_n;
static Arrival *arrivals;
static long arrivals_n, next_arrival, in_flight;
static float (*each)[2];
static float *latency, *first_byte;
static long samples, answered, all_answered, chunks_total, bytes_total, errors, reconnected, retried, without_usage,
    without_done;
static int64_t begins, ends;
static char first_error[600];

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static bool open_loop(void) { return arrivals_file != NULL; }

static void note_error(const char *what, const Connection *c, const char *rest) {
    if (first_error[0]) return;
    snprintf(first_error, sizeof first_error, "%s, status %d: %.200s %.250s", what, c->status, c->head_n ? c->head : "",
             rest ? rest : "");
    for (char *at = first_error; *at; at++)
        if (*at == '"' || *at == '\\' || (unsigned char)*at < 32 || (unsigned char)*at > 126) *at = ' ';
}

static int address(struct sockaddr_in *at) {
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return sizeof *at;
}

static void hang_up(Connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->reused = false;
}

static bool connected(Connection *c) {
    struct sockaddr_in at;
    int one = 1, length = address(&at);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) return false;
    if (connect(c->fd, (void *)&at, length) && errno != EINPROGRESS) {
        hang_up(c);
        return false;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &wanted);
    reconnected++;
    return true;
}

static void watch(Connection *c, uint32_t what) {
    struct epoll_event wanted = {.events = what, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &wanted);
}

static void answered_or_failed(Connection *c, const char *fault);

// Sends what is left; false if the connection is gone.
static bool send_rest(Connection *c) {
    while (c->sent < c->out_n) {
        int written = write(c->fd, c->out + c->sent, c->out_n - c->sent);
        if (written < 0) {
            if (errno != EAGAIN && errno != ENOTCONN) return false;
            if (c->state != SENDING) watch(c, EPOLLIN | EPOLLOUT);
            c->state = SENDING;
            return true;
        }
        c->sent += written;
    }
    if (c->state == SENDING) watch(c, EPOLLIN);
    c->state = READING_HEAD;
    return true;
}

static void send_on(Connection *c) {
    c->state = READING_HEAD;
    c->head_n = c->status = c->sent = c->tail_n = 0;
    c->first = c->chunks = c->bytes = c->left = c->chunk_size = 0;
    c->closes = c->has_usage = c->has_done = false;
    c->chunk = CHUNK_SIZE;
    for (int attempt = 0; attempt < 3; attempt++) {
        if (c->fd < 0 && !connected(c)) {
            usleep(1000);
            continue;
        }
        if (send_rest(c)) return;
        hang_up(c);
    }
    answered_or_failed(c, "cannot connect or send");
}

static int request_head(char *into, long body_n) {
    int n = sprintf(into,
                    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: */*\r\n"
                    "User-Agent: OpenAI/Python 2.54.0\r\n", path, port);
    if (key) n += sprintf(into + n, "Authorization: Bearer %s\r\n", key);
    n += sprintf(into + n, "%sContent-Length: %ld\r\n\r\n", headers, body_n);
    return n;
}

static void begin_arrival(Connection *c, long job) {
    static const char *words = "a lazy dog and a quick brown fox count the tokens that pass through the gate, ";
    const Arrival *a = &arrivals[job];
    char front[512], back[256];
    int front_n = sprintf(front, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"", model);
    int back_n = sprintf(back, "\"}],\"max_tokens\":%ld%s}", a->max_tokens,
                         stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
    long total = front_n + a->prompt_chars + back_n, word_n = strlen(words);
    c->own = realloc(c->own, total + 8192);
    int n = request_head(c->own, total);
    memcpy(c->own + n, front, front_n);
    n += front_n;
    for (long i = 0; i < a->prompt_chars; i++) c->own[n++] = words[(i + job) % word_n];
    memcpy(c->own + n, back, back_n);
    c->out = c->own;
    c->out_n = n + back_n;
    c->job = job;
    c->scheduled = begins + a->offset_us * 1000;
    in_flight++;
    send_on(c);
}

static void begin_due(void) {
    while (next_arrival < arrivals_n && begins + arrivals[next_arrival].offset_us * 1000 <= now()) {
        Connection *c = NULL;
        if (resting_n) c = resting[--resting_n];
        else if (opened < MAX_CONNECTIONS) c = &connections[opened++];
        if (!c) return;    // it stays due: its latency runs from the scheduled time all the same
        begin_arrival(c, next_arrival++);
    }
}

static void measured(const Connection *c, int64_t at) {
    answered++;
    chunks_total += c->chunks;
    bytes_total += c->bytes;
    if (stream && !c->has_done) without_done++;
    if (!c->has_usage) without_usage++;
    float whole = (at - c->scheduled) / 1e3f, first = c->first ? (c->first - c->scheduled) / 1e3f : 0;
    if (open_loop()) each[c->job][0] = whole, each[c->job][1] = first;
    if (samples < MAX_SAMPLES) {
        latency[samples] = whole;
        first_byte[samples++] = first;
    }
}

static void answered_or_failed(Connection *c, const char *fault) {
    int64_t at = now();
    if (fault && c->reused && c->head_n == 0) {    // the server closed a resting connection: any client asks once more
        retried++;
        hang_up(c);
        send_on(c);
        return;
    }
    if (!fault && c->status != 200) fault = "refused";
    if (open_loop() || (at >= begins && at <= ends)) {
        if (fault) {
            errors++;
            note_error(fault, c, NULL);
        } else measured(c, at);
    }
    if (!fault) all_answered++;
    if (fault || c->closes) hang_up(c);
    else c->reused = true;
    c->state = RESTING;
    if (open_loop()) {
        in_flight--;
        resting[resting_n++] = c;
    } else if (at < ends && !(wanted_requests && all_answered >= wanted_requests)) {
        if (fault) usleep(200);    // a server that refuses everything must not be hammered
        c->scheduled = now();
        send_on(c);
    }
}

// How often `mark` ends in these bytes, counting those that began in the read before.
static long count_marks(const Connection *c, const char *bytes, int n, const char *mark) {
    int mark_n = strlen(mark), keep = mark_n - 1 < c->tail_n ? mark_n - 1 : c->tail_n;
    char seam[2 * TAIL];
    int after = n < mark_n - 1 ? n : mark_n - 1;
    memcpy(seam, c->tail + c->tail_n - keep, keep);
    memcpy(seam + keep, bytes, after);
    long count = memmem(seam, keep + after, mark, mark_n) != NULL;
    for (const char *at = bytes; (at = memmem(at, bytes + n - at, mark, mark_n)); at += mark_n) count++;
    return count;
}

static void keep_tail(Connection *c, const char *bytes, int n) {
    if (n >= TAIL) {
        memcpy(c->tail, bytes + n - TAIL, TAIL);
        c->tail_n = TAIL;
        return;
    }
    int keep = c->tail_n + n > TAIL ? TAIL - n : c->tail_n;
    memmove(c->tail, c->tail + c->tail_n - keep, keep);
    memcpy(c->tail + keep, bytes, n);
    c->tail_n = keep + n;
}

static void body(Connection *c, const char *bytes, int n) {
    if (n <= 0) return;
    if (!c->first) c->first = now();
    c->bytes += n;
    if (stream) {
        c->chunks += count_marks(c, bytes, n, "data:");
        if (!c->has_done) c->has_done = count_marks(c, bytes, n, "[DONE]");
    }
    if (!c->has_usage) c->has_usage = count_marks(c, bytes, n, "\"prompt_tokens\"");
    keep_tail(c, bytes, n);
}

// Reads the head; returns how many bytes it took, or -1 when the answer is over or broken.
static int take_head(Connection *c, char *bytes, int n) {
    int room = HEAD - 1 - c->head_n, part = n < room ? n : room, from = c->head_n > 3 ? c->head_n - 3 : 0;
    memcpy(c->head + c->head_n, bytes, part);
    char *end = memmem(c->head + from, c->head_n + part - from, "\r\n\r\n", 4);
    if (!end) {
        c->head_n += part;
        c->head[c->head_n] = 0;
        if (c->head_n < HEAD - 1) return part;
        answered_or_failed(c, "headers too long");
        return -1;
    }
    int head_n = end - c->head + 4, taken = head_n - c->head_n;
    c->head[head_n] = 0;
    c->head_n = head_n;
    c->status = atoi(c->head + 9);
    if (c->status == 100) {
        c->head_n = 0;
        return taken;
    }
    bool chunked = false;
    long length = -1;
    for (char *line = c->head; line < end;) {
        char *stop = strstr(line, "\r\n");
        if (!stop) break;
        if (!strncasecmp(line, "content-length:", 15)) length = atol(line + 15);
        else if (!strncasecmp(line, "transfer-encoding:", 18)) chunked |= memmem(line, stop - line, "chunked", 7) != NULL;
        else if (!strncasecmp(line, "connection:", 11)) c->closes |= memmem(line, stop - line, "close", 5) != NULL;
        line = stop + 2;
    }
    if (c->status != 200) note_error("refused", c, taken < n ? bytes + taken : NULL);
    c->state = chunked ? CHUNKED_BODY : length >= 0 ? SIZED_BODY : BODY_TO_CLOSE;
    c->left = length;
    if (c->state == BODY_TO_CLOSE) c->closes = true;
    if (c->state == SIZED_BODY && !length) {
        answered_or_failed(c, NULL);
        return -1;
    }
    return taken;
}

static int hex(char digit) { return digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10; }

static int take_data(Connection *c, const char *bytes, int n) {
    int part = n < c->left ? n : (int)c->left;
    body(c, bytes, part);
    c->left -= part;
    return part;
}

static int take_chunked(Connection *c, const char *bytes, int n) {
    char letter = *bytes;
    switch (c->chunk) {
    case CHUNK_SIZE:
        if (letter == '\r' || letter == ';') c->chunk = CHUNK_SIZE_END;
        else c->chunk_size = c->chunk_size * 16 + hex(letter);
        return 1;
    case CHUNK_SIZE_END:
        if (letter == '\n') {
            c->chunk = c->chunk_size ? CHUNK_DATA : LAST_CHUNK_END;
            c->left = c->chunk_size;
        }
        return 1;
    case CHUNK_DATA: {
        int taken = take_data(c, bytes, n);
        if (!c->left) c->chunk = CHUNK_END;
        return taken;
    }
    case CHUNK_END:
        if (letter == '\n') {
            c->chunk = CHUNK_SIZE;
            c->chunk_size = 0;
        }
        return 1;
    default:
        if (letter != '\n') return 1;
        answered_or_failed(c, NULL);
        return -1;
    }
}

static void take(Connection *c, char *bytes, int n) {
    while (n > 0) {
        int taken = n;
        if (c->state == READING_HEAD || c->state == SENDING) taken = take_head(c, bytes, n);
        else if (c->state == CHUNKED_BODY) taken = take_chunked(c, bytes, n);
        else if (c->state == BODY_TO_CLOSE) body(c, bytes, n);
        else if (c->state == SIZED_BODY) {
            taken = take_data(c, bytes, n);
            if (!c->left) {
                answered_or_failed(c, NULL);
                return;
            }
        } else return;
        if (taken < 0) return;
        bytes += taken;
        n -= taken;
    }
}

static void ready(Connection *c, uint32_t what) {
    static char bytes[262144];
    if (c->fd < 0) return;
    if (c->state == SENDING && what & EPOLLOUT && !send_rest(c)) {
        answered_or_failed(c, "cannot send");
        return;
    }
    if (!(what & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    int got = read(c->fd, bytes, sizeof bytes - 1);
    if (got > 0) {
        bytes[got] = 0;
        take(c, bytes, got);
    } else if (got == 0 || errno != EAGAIN) {
        if (c->state == RESTING || c->state == UNUSED) hang_up(c);
        else if (c->state == BODY_TO_CLOSE && got == 0) answered_or_failed(c, NULL);
        else answered_or_failed(c, "the connection was closed in mid-answer");
    }
}

static int *idle_connections(void) {
    int *fds = malloc(sizeof(int) * (idle + 1));
    for (int i = 0; i < idle; i++) {
        struct sockaddr_in at;
        int length = address(&at);
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        struct timeval patience = {.tv_sec = 5};
        if (fds[i] >= 0) setsockopt(fds[i], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (fds[i] >= 0 && connect(fds[i], (void *)&at, length)) {
            close(fds[i]);
            fds[i] = -1;
        }
        if (i % 256 == 255) usleep(20000);    // let the server accept: this is about many, not about a flood
    }
    return fds;
}

static void still_open(const int *fds, int *opened_n, int *open_n) {
    *opened_n = *open_n = 0;
    for (int i = 0; i < idle; i++) {
        char byte;
        if (fds[i] < 0) continue;
        ++*opened_n;
        if (recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN) ++*open_n;
    }
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float quantile(const float *sorted, long n, double share) {
    long index = (long)(share * n);
    return n ? sorted[index < n ? index : n - 1] : -1;
}

static void report(const int *idle_fds, double elapsed_s) {
    int idle_opened, idle_open;
    still_open(idle_fds, &idle_opened, &idle_open);
    qsort(latency, samples, sizeof *latency, ascending);
    qsort(first_byte, samples, sizeof *first_byte, ascending);
    double sum = 0;
    for (long i = 0; i < samples; i++) sum += latency[i];
    printf("{\"seconds\":%.3f,\"answered\":%ld,\"answered_with_warm_up\":%ld,\"requests_per_s\":%.1f,", elapsed_s, answered,
           all_answered, answered / elapsed_s);
    printf("\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"mean_us\":%.1f,\"max_us\":%.1f,",
           quantile(latency, samples, .5), quantile(latency, samples, .9), quantile(latency, samples, .99),
           quantile(latency, samples, .999), samples ? sum / samples : -1, quantile(latency, samples, 1));
    printf("\"first_p50_us\":%.1f,\"first_p99_us\":%.1f,", quantile(first_byte, samples, .5),
           quantile(first_byte, samples, .99));
    printf("\"chunks\":%ld,\"chunks_per_s\":%.1f,\"chunks_per_answer\":%.2f,\"megabytes_per_s\":%.2f,", chunks_total,
           chunks_total / elapsed_s, answered ? (double)chunks_total / answered : 0, bytes_total / elapsed_s / 1e6);
    printf("\"errors\":%ld,\"reconnected\":%ld,\"retried\":%ld,\"without_usage\":%ld,\"without_done\":%ld,", errors,
           reconnected, retried, without_usage, without_done);
    printf("\"idle_opened\":%d,\"idle_open_at_end\":%d,\"first_error\":\"%s\"}\n", idle_opened, idle_open, first_error);
}

static void turn(int64_t until) {
    static struct epoll_event events[512];
    int64_t left = until - now();
    if (left < 0) left = 0;
    struct timespec rest = {left / 1000000000LL, left % 1000000000LL};
    int n = epoll_pwait2(epoll_fd, events, 512, &rest, NULL);
    for (int i = 0; i < n; i++) ready(events[i].data.ptr, events[i].events);
}

static double closed_loop(void) {
    int64_t start = now(), progress = start + (int64_t)(progress_s * 1e9);
    begins = start + (int64_t)(warm_s * 1e9);
    ends = begins + (int64_t)(seconds * 1e9);
    for (int i = 0; i < concurrency; i++) {
        connections[i].out = request;
        connections[i].out_n = request_n;
        connections[i].scheduled = now();
        send_on(&connections[i]);
    }
    reconnected = 0;
    while (now() < ends && !(wanted_requests && all_answered >= wanted_requests)) {
        int64_t until = now() + 100000000LL;
        turn(until < ends ? until : ends);
        if (progress_s && now() >= progress) {
            printf("{\"answered\":%ld}\n", all_answered);
            fflush(stdout);
            progress = now() + (int64_t)(progress_s * 1e9);
        }
    }
    return (now() - begins) / 1e9;
}

static double replayed(void) {
    begins = now() + 50000000LL;
    int64_t last = begins + arrivals[arrivals_n - 1].offset_us * 1000, give_up = last + DRAIN_S * 1000000000LL;
    while ((next_arrival < arrivals_n || in_flight) && now() < give_up) {
        begin_due();
        int64_t until = now() + 100000000LL;
        if (next_arrival < arrivals_n) {
            int64_t due = begins + arrivals[next_arrival].offset_us * 1000;
            if (due < until && due > now()) until = due;
        }
        turn(until);
    }
    long unanswered = in_flight + (arrivals_n - next_arrival);
    errors += unanswered;
    if (unanswered && !first_error[0]) sprintf(first_error, "%ld not answered %d s after the end", unanswered, DRAIN_S);
    return (now() - begins) / 1e9;
}

static void read_body(void) {
    static char bytes[200000];
    FILE *file = fopen(body_file, "rb");
    if (!file) {
        perror(body_file);
        exit(2);
    }
    int n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    while (n && bytes[n - 1] == '\n') n--;
    request = malloc(n + 8192);
    request_n = request_head(request, n);
    memcpy(request + request_n, bytes, n);
    request_n += n;
}

static void read_arrivals(void) {
    FILE *file = fopen(arrivals_file, "r");
    if (!file) {
        perror(arrivals_file);
        exit(2);
    }
    long capacity = 0;
    Arrival a;
    while (fscanf(file, "%ld %ld %ld", &a.offset_us, &a.prompt_chars, &a.max_tokens) == 3) {
        if (arrivals_n == capacity) arrivals = realloc(arrivals, (capacity = capacity ? capacity * 2 : 4096) * sizeof a);
        arrivals[arrivals_n++] = a;
    }
    fclose(file);
    if (!arrivals_n) {
        fprintf(stderr, "load: no arrivals in %s\n", arrivals_file);
        exit(2);
    }
    each = malloc(arrivals_n * sizeof *each);
    for (long i = 0; i < arrivals_n; i++) each[i][0] = each[i][1] = -1;
}

static void write_each(void) {
    FILE *file = fopen(each_file, "w");
    if (!file) {
        perror(each_file);
        exit(2);
    }
    for (long i = 0; i < arrivals_n; i++) fprintf(file, "%.1f %.1f\n", each[i][0], each[i][1]);
    fclose(file);
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},     {"path", 1, 0, 'P'},  {"concurrency", 1, 0, 'c'}, {"warm", 1, 0, 'w'}, {"seconds", 1, 0, 's'},
        {"requests", 1, 0, 'n'}, {"stream", 0, 0, 'S'}, {"body", 1, 0, 'b'},       {"key", 1, 0, 'k'},  {"header", 1, 0, 'H'},
        {"idle", 1, 0, 'i'},     {"progress", 1, 0, 'r'}, {"arrivals", 1, 0, 'a'}, {"model", 1, 0, 'm'}, {"each", 1, 0, 'e'},
        {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'P': path = optarg; break;
        case 'c': concurrency = atoi(optarg); break;
        case 'w': warm_s = atof(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'n': wanted_requests = atol(optarg); seconds = 86400; break;
        case 'S': stream = true; break;
        case 'b': body_file = optarg; break;
        case 'k': key = optarg; break;
        case 'H': snprintf(headers + strlen(headers), sizeof headers - strlen(headers), "%s\r\n", optarg); break;
        case 'i': idle = atoi(optarg); break;
        case 'r': progress_s = atof(optarg); break;
        case 'a': arrivals_file = optarg; break;
        case 'm': model = optarg; break;
        case 'e': each_file = optarg; break;
        default: exit(2);
    }
    if (!port || concurrency < 1 || concurrency > MAX_CONNECTIONS || (!body_file && !arrivals_file)) {
        fprintf(stderr, "load: --port and one of --body and --arrivals are needed; --concurrency is 1 to %d\n", MAX_CONNECTIONS);
        exit(2);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (body_file) read_body();
    if (arrivals_file) read_arrivals();
    latency = malloc(MAX_SAMPLES * sizeof *latency);
    first_byte = malloc(MAX_SAMPLES * sizeof *first_byte);
    connections = calloc(MAX_CONNECTIONS, sizeof *connections);
    resting = malloc(MAX_CONNECTIONS * sizeof *resting);
    for (int i = 0; i < MAX_CONNECTIONS; i++) connections[i].fd = -1;
    epoll_fd = epoll_create1(0);
    int *idle_fds = idle_connections();
    double elapsed_s = arrivals_file ? replayed() : closed_loop();
    report(idle_fds, elapsed_s);
    if (each_file && arrivals_file) write_each();
    return 0;
}
