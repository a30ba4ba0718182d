// Denormal numbers as zeros.
#pragma once

namespace dnc {

// Lets denormal numbers be zeros (or not) in the calling thread and in so many threads of its
// OpenMP pool; returns whether they were in the calling one.
bool flush_denormals(bool flush, int threads);

}  // namespace dnc
