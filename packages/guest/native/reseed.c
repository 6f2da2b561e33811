/*
 * Node-API addon with one function: reseed() -> 1 reseeded, 0 refused by OpenSSL, -1 this node has no such OpenSSL.
 *
 * RAND_poll reseeds OpenSSL's primary generator from the operating system; the generator of every thread notices that
 * and reseeds itself at its next use (providers/implementations/rands/drbg.c: parent_reseed_counter). Everything here is
 * taken from the running node, which exports OpenSSL and Node-API (a stable ABI): no header, no C library, so one file per
 * processor serves every version and both glibc and musl. Built by build.sh.
 */
typedef struct napi_env_s *napi_env;
typedef struct napi_value_s *napi_value;
typedef napi_value (*napi_callback)(napi_env, void *);

extern int napi_create_function(napi_env, const char *, unsigned long, napi_callback, void *, napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern int napi_create_int32(napi_env, int, napi_value *);
extern int RAND_poll(void) __attribute__((weak));

static napi_value reseed(napi_env env, void *info) {
  (void)info;
  napi_value result = 0;
  napi_create_int32(env, RAND_poll ? RAND_poll() == 1 : -1, &result);
  return result;
}

__attribute__((visibility("default"))) int node_api_module_get_api_version_v1(void) { return 8; }

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  napi_value function = 0;
  if (napi_create_function(env, "reseed", 6, reseed, 0, &function) == 0)
    napi_set_named_property(env, exports, "reseed", function);
  return exports;
}
