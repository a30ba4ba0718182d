# Whether dnc_sparse._cuda is tried at all, for nvcc takes minutes in which pip says nothing: sets
# no_cuda_reason to why not, or to nothing (docs/decisions/0014-what-an-install-brings.md). And for
# which GPUs: cuda_architectures.
set(no_cuda_reason "")
# of later GPUs the driver compiles the PTX of 80 itself
set(cuda_architectures 80 90a-real 100a-real)
find_program(DNC_NVIDIA_SMI nvidia-smi PATHS /usr/lib/wsl/lib)
string(TOUPPER "${DNC_CUDA}" DNC_CUDA)
if(NOT DNC_CUDA MATCHES "^(AUTO|NVCC|ON|OFF|TRUE|FALSE|YES|NO|1|0)$")
  message(FATAL_ERROR "DNC_CUDA=${DNC_CUDA} is unknown; choose AUTO, NVCC, ON or OFF")
elseif(DNC_CUDA STREQUAL "AUTO")
  set(gpus "")
  if(DNC_NVIDIA_SMI)
    execute_process(COMMAND ${DNC_NVIDIA_SMI} -L OUTPUT_VARIABLE gpus ERROR_QUIET)
  endif()
  if(NOT gpus MATCHES "GPU [0-9]")
    set(no_cuda_reason "nvidia-smi lists no GPU on this machine; DNC_CUDA=ON builds it all the same")
  endif()
elseif(NOT DNC_CUDA)
  set(no_cuda_reason "DNC_CUDA=${DNC_CUDA}")
endif()

# development compiles for the GPUs of this machine, and without one for Hopper
if(DNC_CUDA STREQUAL "NVCC")
  set(capabilities "")
  if(DNC_NVIDIA_SMI)
    execute_process(COMMAND ${DNC_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE capabilities ERROR_QUIET)
  endif()
  string(REGEX MATCHALL "[0-9]+[.][0-9]" capabilities "${capabilities}")
  list(TRANSFORM capabilities REPLACE "[.]" "")
  list(TRANSFORM capabilities REPLACE "^(90|100)$" "\\1a")
  list(TRANSFORM capabilities APPEND "-real")
  list(REMOVE_DUPLICATES capabilities)
  set(cuda_architectures ${capabilities})
  if(NOT capabilities)
    set(cuda_architectures 90a-real)
  endif()
endif()
