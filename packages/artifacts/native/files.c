/*
 * Node-API addon with what node:fs lacks for saving and restoring a folder that somebody else may be changing:
 *   call(number, ...up to 6 arguments) -> the system call's result, or -errno. Numbers pass as they are, a Uint8Array as its address.
 *   scan(directoryFd, out) -> bytes of records of the next entries, 0 at the end, or -errno. One getdents64, and a statx of each.
 *   stat(directoryFd, name ending in NUL, out) -> 0 or -errno. An empty name is the descriptor itself.
 *   compare(directoryFd, mount as in a record, names, starts, entries, stats, out) -> 0 or -errno. For each of `entries` the name
 *     from starts[entry] to starts[entry + 1] is looked at: out is 0 when it is gone, on another mount or differs in bytes 40 to 80 of its
 *     record from stats[entry], 1 when it is the same, 2 when it is the same and has several links.
 *
 * A record, little-endian, padded to 8 bytes: u16 length, u16 name length, i32 0 or -errno of statx, u32 mode, links, uid, gid,
 * u64 mount (its id, or what stands for the device where the kernel has none), device, inode, size, i64 seconds of mtime, of ctime, u32 nanoseconds of mtime, of
 * ctime, the name, a NUL. stat() writes the first 80 bytes of it.
 *
 * No header, no C library: Node-API is taken from the running node (a stable ABI), system calls are made here, so one file per
 * processor serves glibc and musl. Built by build.sh. The numbers and the checks of arguments are in src/versions/syscalls.ts.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;
typedef struct napi_env_s *napi_env;
typedef struct napi_value_s *napi_value;
typedef struct napi_callback_info_s *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);

extern int napi_create_function(napi_env, const char *, u64, napi_callback, void *, napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern int napi_create_int64(napi_env, i64, napi_value *);
extern int napi_get_cb_info(napi_env, napi_callback_info, u64 *, napi_value *, napi_value *, void **);
extern int napi_get_value_int64(napi_env, napi_value, i64 *);
extern int napi_get_buffer_info(napi_env, napi_value, void **, u64 *);

#define EINVAL 22
#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_EMPTY_PATH 0x1000
#define STATX_BASIC_STATS 0x7ff
#define STATX_MNT_ID 0x1000
#define RECORD_HEAD 80
#define DIRENT_HEAD 19
/* An entry takes at least 24 bytes of getdents64 and at most 4 times that as a record. */
#define RECORD_GROWTH 4
#define DIRENTS_MAX 32768

#if defined(__x86_64__)
#define SYS_getdents64 217
#define SYS_statx 332
static i64 system_call(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
  i64 result;
  register i64 r10 __asm__("r10") = d;
  register i64 r8 __asm__("r8") = e;
  register i64 r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
#define SYS_getdents64 61
#define SYS_statx 291
static i64 system_call(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
  register i64 x8 __asm__("x8") = n;
  register i64 x0 __asm__("x0") = a;
  register i64 x1 __asm__("x1") = b;
  register i64 x2 __asm__("x2") = c;
  register i64 x3 __asm__("x3") = d;
  register i64 x4 __asm__("x4") = e;
  register i64 x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}
#else
#error "no system calls for this processor"
#endif

struct statx_time {
  i64 seconds;
  u32 nanoseconds;
  u32 reserved;
};

struct statx {
  u32 mask, blksize;
  u64 attributes;
  u32 nlink, uid, gid;
  u16 mode, spare0;
  u64 ino, size, blocks, attributes_mask;
  struct statx_time atime, btime, ctime, mtime;
  u32 rdev_major, rdev_minor, dev_major, dev_minor;
  u64 mnt_id;
  u64 spare[13];
};

static void put16(u8 *at, u16 value) { *(u16 *)at = value; }
static void put32(u8 *at, u32 value) { *(u32 *)at = value; }
static void put64(u8 *at, u64 value) { *(u64 *)at = value; }

static i64 put_stat(i64 directory, const u8 *name, u8 *out) {
  struct statx found;
  i64 flags = AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH);
  i64 error = system_call(SYS_statx, directory, (i64)name, flags, STATX_BASIC_STATS | STATX_MNT_ID,
                          (i64)&found, 0);
  put32(out + 4, (u32)error);
  if (error < 0) return error;
  put32(out + 8, found.mode);
  put32(out + 12, found.nlink);
  put32(out + 16, found.uid);
  put32(out + 20, found.gid);
  u64 device = (u64)found.dev_major << 32 | found.dev_minor;
  put64(out + 24, found.mask & STATX_MNT_ID ? found.mnt_id : ~device);
  put64(out + 32, device);
  put64(out + 40, found.ino);
  put64(out + 48, found.size);
  put64(out + 56, (u64)found.mtime.seconds);
  put64(out + 64, (u64)found.ctime.seconds);
  put32(out + 72, found.mtime.nanoseconds);
  put32(out + 76, found.ctime.nanoseconds);
  return 0;
}

static napi_value number(napi_env env, i64 value) {
  napi_value result = 0;
  napi_create_int64(env, value, &result);
  return result;
}

static napi_value call(napi_env env, napi_callback_info info) {
  napi_value given[7];
  i64 values[7] = {0};
  u64 count = 7;
  if (napi_get_cb_info(env, info, &count, given, 0, 0) != 0 || count < 1) return number(env, -EINVAL);
  for (u64 i = 0; i < count && i < 7; i += 1) {
    void *bytes = 0;
    u64 length = 0;
    if (napi_get_value_int64(env, given[i], &values[i]) == 0) continue;
    if (napi_get_buffer_info(env, given[i], &bytes, &length) != 0) return number(env, -EINVAL);
    values[i] = (i64)bytes;
  }
  return number(
      env, system_call(values[0], values[1], values[2], values[3], values[4], values[5], values[6]));
}

static napi_value stat(napi_env env, napi_callback_info info) {
  napi_value given[3];
  u64 count = 3, name_length = 0, out_length = 0;
  i64 directory = 0;
  u8 *name = 0, *out = 0;
  if (napi_get_cb_info(env, info, &count, given, 0, 0) != 0 || count != 3 ||
      napi_get_value_int64(env, given[0], &directory) != 0 ||
      napi_get_buffer_info(env, given[1], (void **)&name, &name_length) != 0 || name_length < 1 ||
      name[name_length - 1] != 0 || napi_get_buffer_info(env, given[2], (void **)&out, &out_length) != 0 ||
      out_length < RECORD_HEAD)
    return number(env, -EINVAL);
  return number(env, put_stat(directory, name, out));
}

static napi_value scan(napi_env env, napi_callback_info info) {
  __attribute__((aligned(8))) u8 entries[DIRENTS_MAX];
  napi_value given[2];
  u64 count = 2, room = 0;
  i64 directory = 0;
  u8 *out = 0;
  if (napi_get_cb_info(env, info, &count, given, 0, 0) != 0 || count != 2 ||
      napi_get_value_int64(env, given[0], &directory) != 0 ||
      napi_get_buffer_info(env, given[1], (void **)&out, &room) != 0 || ((u64)out & 7) != 0 ||
      room < DIRENTS_MAX * RECORD_GROWTH)
    return number(env, -EINVAL);
  i64 end = system_call(SYS_getdents64, directory, (i64)entries, DIRENTS_MAX, 0, 0, 0);
  if (end < 0) return number(env, end);
  u64 written = 0;
  for (i64 at = 0; at < end;) {
    u16 length = *(u16 *)(entries + at + 16);
    const u8 *name = entries + at + DIRENT_HEAD;
    u64 name_length = 0;
    while (name[name_length] != 0) name_length += 1;
    at += length;
    if (name[0] == '.' && (name_length == 1 || (name_length == 2 && name[1] == '.'))) continue;
    u8 *record = out + written;
    u64 record_length = (RECORD_HEAD + name_length + 1 + 7) & ~7UL;
    if (written + record_length > room) return number(env, -EINVAL);
    put16(record, (u16)record_length);
    put16(record + 2, (u16)name_length);
    put_stat(directory, name, record);
    for (u64 i = 0; i <= name_length; i += 1) record[RECORD_HEAD + i] = name[i];
    written += record_length;
  }
  /* A read of nothing but "." and ".." is not the end. */
  if (written == 0 && end > 0) return scan(env, info);
  return number(env, (i64)written);
}

static int is_array(napi_env env, napi_value value, void **data, u64 *length) {
  return napi_get_buffer_info(env, value, data, length) == 0;
}

static napi_value compare(napi_env env, napi_callback_info info) {
  __attribute__((aligned(8))) u8 found[RECORD_HEAD];
  u8 name[256];
  napi_value given[7];
  u64 count = 7, mount_bytes = 0, names_bytes = 0, starts_bytes = 0, entries_bytes = 0, stats_bytes = 0, room = 0;
  i64 directory = 0;
  u32 *mount = 0, *starts = 0, *entries = 0, *stats = 0;
  u8 *names = 0, *out = 0;
  if (napi_get_cb_info(env, info, &count, given, 0, 0) != 0 || count != 7 ||
      napi_get_value_int64(env, given[0], &directory) != 0 ||
      !is_array(env, given[1], (void **)&mount, &mount_bytes) || mount_bytes < 8 ||
      !is_array(env, given[2], (void **)&names, &names_bytes) ||
      !is_array(env, given[3], (void **)&starts, &starts_bytes) ||
      !is_array(env, given[4], (void **)&entries, &entries_bytes) ||
      !is_array(env, given[5], (void **)&stats, &stats_bytes) || !is_array(env, given[6], (void **)&out, &room) ||
      room < entries_bytes / 4)
    return number(env, -EINVAL);
  for (u64 i = 0; i < entries_bytes / 4; i += 1) {
    u64 entry = entries[i];
    if ((entry + 2) * 4 > starts_bytes || (entry + 1) * 40 > stats_bytes) return number(env, -EINVAL);
    u64 start = starts[entry], end = starts[entry + 1];
    if (start > end || end > names_bytes || end - start > 255) return number(env, -EINVAL);
    for (u64 at = start; at < end; at += 1) name[at - start] = names[at];
    name[end - start] = 0;
    out[i] = 0;
    if (put_stat(directory, name, found) < 0) continue;
    u32 *words = (u32 *)found;
    if (words[6] != mount[0] || words[7] != mount[1]) continue;
    u32 differs = 0;
    for (u64 word = 0; word < 10; word += 1) differs |= words[10 + word] ^ stats[entry * 10 + word];
    if (differs == 0) out[i] = words[3] > 1 ? 2 : 1;
  }
  return number(env, 0);
}

static void export_function(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function = 0;
  u64 length = 0;
  while (name[length] != 0) length += 1;
  if (napi_create_function(env, name, length, callback, 0, &function) == 0)
    napi_set_named_property(env, exports, name, function);
}

__attribute__((visibility("default"))) int node_api_module_get_api_version_v1(void) { return 8; }

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  export_function(env, exports, "call", call);
  export_function(env, exports, "stat", stat);
  export_function(env, exports, "scan", scan);
  export_function(env, exports, "compare", compare);
  return exports;
}
