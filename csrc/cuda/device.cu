#include "launchers.cuh"

int dnc_cuda_properties(int device, int* capability, int* multiprocessors, int* shared_bytes) {
  int major = 0, minor = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error == cudaSuccess) {
    error =
        cudaDeviceGetAttribute(shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  }
  *capability = major * 10 + minor;
  return error;
}

const char* dnc_cuda_error_text(int error) {
  using dnc::cuda::refusal;
  if (error == cudaErrorInvalidValue && refusal[0] != 0) return refusal;
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
