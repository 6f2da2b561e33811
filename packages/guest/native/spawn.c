/*
 * Node-API addon that starts processes without copying this one: clone(CLONE_VM | CLONE_VFORK), as posix_spawn does. Node's
 * own way is fork, which takes 5 ms of the agent's time in a gVisor guest (docs/decisions/0012-commands-in-a-guest.md). Like reseed.c it uses no C library and no header, so one file per processor serves glibc and musl. Built by
 * build.sh.
 *
 *   spawn(text, room, argc, envc, uid, gid, stdin, stdout, stderr, terminal) -> pid, or -(step * 4096 + errno)
 *       text: file, folder, arguments, variables, each ended by a NUL; room: 8 * (argc + envc + 2) bytes for pointers.
 *       step: 1 clone, 2 the session or descriptors, 3 the folder, 4 the user, 5 the program.
 *       uid -1: that of this process. terminal 1: stdin is the controlling terminal of the new session.
 *   reap(pid) -> wait status, -1 while it runs, -2 when it is no child of this process
 *   pipe(two) -> 0 or -errno; two: 8 bytes for the descriptors, to read and to write, both closed on exec
 *   ioctl(fd, request, data) -> 0 or -errno
 */
typedef struct napi_env_s *napi_env;
typedef struct napi_value_s *napi_value;
typedef struct napi_callback_info_s *napi_info;
typedef napi_value (*napi_callback)(napi_env, napi_info);

extern int napi_create_function(napi_env, const char *, unsigned long, napi_callback, void *, napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern int napi_create_int64(napi_env, long, napi_value *);
extern int napi_get_cb_info(napi_env, napi_info, unsigned long *, napi_value *, napi_value *, void **);
extern int napi_get_value_int64(napi_env, napi_value, long *);
extern int napi_get_buffer_info(napi_env, napi_value, void **, unsigned long *);

#if defined(__x86_64__)
enum { WAIT4 = 61, SETSID = 112, DUP3 = 292, CHDIR = 80, SETGROUPS = 116, SETGID = 106, SETUID = 105, EXECVE = 59,
       EXIT = 60, IOCTL = 16, PIPE2 = 293, SIGACTION = 13, SIGPROCMASK = 14 };

static long call(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}

/* The child calls run(argument) on the given stack; both lie on its top. */
static long clone_vfork(long flags, void **top) {
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  long result;
  __asm__ volatile(
      "syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\tpop %%rax\n\tpop %%rdi\n\tcall *%%rax\n\thlt\n1:"
      : "=a"(result)
      : "a"(56L), "D"(flags), "S"(top), "d"(0L), "r"(r10), "r"(r8)
      : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { WAIT4 = 260, SETSID = 157, DUP3 = 24, CHDIR = 49, SETGROUPS = 159, SETGID = 144, SETUID = 146, EXECVE = 221,
       EXIT = 93, IOCTL = 29, PIPE2 = 59, SIGACTION = 134, SIGPROCMASK = 135 };

static long call(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
}

static long clone_vfork(long flags, void **top) {
  register long x8 __asm__("x8") = 220;
  register long x0 __asm__("x0") = flags;
  register void **x1 __asm__("x1") = top;
  register long x2 __asm__("x2") = 0;
  register long x3 __asm__("x3") = 0;
  register long x4 __asm__("x4") = 0;
  __asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x29, xzr\n\tldp x9, x0, [sp], #16\n\tblr x9\n\tbrk #0\n1:"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                   : "x9", "memory");
  return x0;
}
#endif

enum { CLONE_VM_VFORK_SIGCHLD = 0x100 | 0x4000 | 17, SIG_SETMASK = 2, TIOCSCTTY = 0x540E, WNOHANG = 1, CLOEXEC = 02000000 };

struct start {
  const char *file, *folder;
  char **argv, **envp;
  long uid, gid, fds[3], terminal;
  volatile long failure;
};

static long stack[8192] __attribute__((aligned(16)));

static void check(struct start *s, long step, long result) {
  if (result >= 0) return;
  s->failure = -(step * 4096 - result);
  call(EXIT, 127, 0, 0, 0);
}

/* In the child, on memory shared with the parent, whose thread waits until the program is executed or this has ended. */
static void run(struct start *s) {
  struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } plain = {0, 0, 0, 0};
  unsigned long none = 0;
  for (long signal = 1; signal <= 64; signal++) call(SIGACTION, signal, (long)&plain, 0, 8);
  check(s, 2, call(SETSID, 0, 0, 0, 0));
  for (long fd = 0; fd < 3; fd++) check(s, 2, call(DUP3, s->fds[fd], fd, 0, 0));
  if (s->terminal) check(s, 2, call(IOCTL, 0, TIOCSCTTY, 0, 0));
  if (s->uid >= 0) {
    call(SETGROUPS, 0, 0, 0, 0);
    check(s, 4, call(SETGID, s->gid, 0, 0, 0));
    check(s, 4, call(SETUID, s->uid, 0, 0, 0));
  }
  check(s, 3, call(CHDIR, (long)s->folder, 0, 0, 0));
  call(SIGPROCMASK, SIG_SETMASK, (long)&none, 0, 8);
  check(s, 5, call(EXECVE, (long)s->file, (long)s->argv, (long)s->envp, 0));
}

static napi_value number(napi_env env, long value) {
  napi_value result = 0;
  napi_create_int64(env, value, &result);
  return result;
}

/* Arguments as numbers; those of Buffers stay 0 and lie in `data`. */
static void arguments(napi_env env, napi_info info, unsigned long count, long *numbers, char **data) {
  napi_value values[10] = {0};
  napi_get_cb_info(env, info, &count, values, 0, 0);
  for (unsigned long n = 0; n < count; n++) {
    unsigned long length = 0;
    void *bytes = 0;
    numbers[n] = 0;
    data[n] = 0;
    if (napi_get_value_int64(env, values[n], &numbers[n]) != 0 &&
        napi_get_buffer_info(env, values[n], &bytes, &length) == 0)
      data[n] = bytes;
  }
}

static char *after(char *text) {
  while (*text) text++;
  return text + 1;
}

static napi_value spawn(napi_env env, napi_info info) {
  long n[10];
  char *data[10];
  arguments(env, info, 10, n, data);
  char *text = data[0];
  char **pointers = (char **)data[1];
  if (!text || !pointers) return number(env, -(1 * 4096 + 22));
  struct start s = {.file = text, .uid = n[4], .gid = n[5], .fds = {n[6], n[7], n[8]}, .terminal = n[9], .failure = 0};
  s.folder = text = after(text);
  s.argv = pointers;
  for (long at = 0; at < n[2]; at++) *pointers++ = text = after(text);
  *pointers++ = 0;
  s.envp = pointers;
  for (long at = 0; at < n[3]; at++) *pointers++ = text = after(text);
  *pointers = 0;
  unsigned long all = ~0UL, before = 0;
  void **top = (void **)(stack + sizeof stack / sizeof *stack) - 2;
  top[0] = (void *)run;
  top[1] = &s;
  /* No handler of this process may run in the child. */
  call(SIGPROCMASK, SIG_SETMASK, (long)&all, (long)&before, 8);
  long pid = clone_vfork(CLONE_VM_VFORK_SIGCHLD, top);
  call(SIGPROCMASK, SIG_SETMASK, (long)&before, 0, 8);
  if (pid < 0) return number(env, -(1 * 4096 - pid));
  if (s.failure == 0) return number(env, pid);
  call(WAIT4, pid, 0, 0, 0);
  return number(env, s.failure);
}

static napi_value reap(napi_env env, napi_info info) {
  long n[1];
  char *data[1];
  int status = 0;
  arguments(env, info, 1, n, data);
  long pid = call(WAIT4, n[0], (long)&status, WNOHANG, 0);
  return number(env, pid == 0 ? -1 : pid < 0 ? -2 : status);
}

static napi_value make_pipe(napi_env env, napi_info info) {
  long n[1];
  char *data[1];
  arguments(env, info, 1, n, data);
  return number(env, call(PIPE2, (long)data[0], CLOEXEC, 0, 0));
}

static napi_value control(napi_env env, napi_info info) {
  long n[3];
  char *data[3];
  arguments(env, info, 3, n, data);
  return number(env, call(IOCTL, n[0], n[1], (long)data[2], 0));
}

__attribute__((visibility("default"))) int node_api_module_get_api_version_v1(void) { return 8; }

static void add(napi_env env, napi_value exports, const char *name, unsigned long length, napi_callback callback) {
  napi_value function = 0;
  if (napi_create_function(env, name, length, callback, 0, &function) == 0)
    napi_set_named_property(env, exports, name, function);
}

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  add(env, exports, "spawn", 5, spawn);
  add(env, exports, "reap", 4, reap);
  add(env, exports, "pipe", 4, make_pipe);
  add(env, exports, "ioctl", 5, control);
  return exports;
}
