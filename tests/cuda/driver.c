// Stands in for the CUDA driver behind Triton's own launcher: modules load, launches are accepted
// and told, nothing runs. Compiled with the cuda.h that Triton brings.
#include <cuda.h>
#include <string.h>

static int launches = 0;
static unsigned sizes[3];  // blocks, threads of each, bytes of shared memory of each
static CUdeviceptr pointer;

// launches since the call before; of the first of them come sizes and pointer
int stub_launches(void) {
  const int count = launches;
  launches = 0;
  return count;
}
const unsigned* stub_sizes(void) { return sizes; }
CUdeviceptr stub_pointer(void) { return pointer; }

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments,
                          void** extra) {
  (void)function, (void)extra;
  if (launches++ > 0) return CUDA_SUCCESS;
  sizes[0] = config->gridDimX, sizes[1] = config->blockDimX, sizes[2] = config->sharedMemBytes;
  memcpy(&pointer, arguments[0], sizeof pointer);
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
  (void)attribute;
  memcpy(data, &address, sizeof address);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  (void)device;
  *value = attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN ? 232448 : 65536;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  (void)function;
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  (void)error;
  *text = "an error of the stub";
  return CUDA_SUCCESS;
}

// handles that nobody looks into
#define HANDLE(name, type, ...)                \
  CUresult name(type* handle, ##__VA_ARGS__) { \
    *handle = (type)1;                         \
    return CUDA_SUCCESS;                       \
  }
#define NOTHING(name, ...) \
  CUresult name(__VA_ARGS__) { return CUDA_SUCCESS; }
#pragma GCC diagnostic ignored "-Wunused-parameter"
HANDLE(cuCtxGetCurrent, CUcontext)
HANDLE(cuDevicePrimaryCtxRetain, CUcontext, CUdevice device)
HANDLE(cuModuleLoadData, CUmodule, const void* image)
HANDLE(cuModuleGetFunction, CUfunction, CUmodule module, const char* name)
HANDLE(cuDeviceGet, CUdevice, int number)
HANDLE(cuCtxGetLimit, size_t, CUlimit limit)
HANDLE(cuDriverGetVersion, int)
NOTHING(cuCtxSetCurrent, CUcontext context)
NOTHING(cuCtxSetLimit, CUlimit limit, size_t value)
NOTHING(cuFuncSetAttribute, CUfunction function, CUfunction_attribute attribute, int value)
NOTHING(cuFuncSetCacheConfig, CUfunction function, CUfunc_cache config)
