#include "issue.h"

#include <algorithm>
#include <limits>
#include <map>

namespace dnc::hw {

namespace {

// clocks from a step's issue to the first issue that sees its writes, beyond the pipeline
constexpr int64_t kFlush = 2;

// An edge, and when it reads its partial delta.
struct Touch {
  int64_t clock;
  int32_t edge;
};

// The edges of a row by turn: the n-th read of a memory has turn n.
std::vector<std::vector<int32_t>> turns(const Junction& junction, int64_t row,
                                        std::vector<Clash>& clashes) {
  std::vector<std::vector<int32_t>> parts;
  std::map<int64_t, int64_t> reads;
  const int64_t end = std::min((row + 1) * junction.lanes, junction.edges());
  for (int64_t e = row * junction.lanes; e < end; e++) {
    const size_t turn = static_cast<size_t>(reads[junction.memory(junction.left[e])]++);
    if (turn == parts.size()) parts.emplace_back();
    parts[turn].push_back(static_cast<int32_t>(e));
  }
  for (const auto& [memory, count] : reads) {
    if (count > 1) clashes.push_back({row, memory, count});
  }
  return parts;
}

}  // namespace

Issue make_issue(const Junction& junction, int64_t pipeline, bool accumulates, bool stalls) {
  const int64_t safe_gap = pipeline + kFlush;
  Issue issue;
  std::vector<int64_t> last(static_cast<size_t>(junction.n_in), -safe_gap);
  int64_t clock = 0;
  int32_t started = 0, finished = 0;
  for (int64_t row = 0; row < junction.rows(); row++) {
    const int64_t end = std::min((row + 1) * junction.lanes, junction.edges());
    const int32_t newest = junction.right[end - 1];
    const bool complete = end == junction.edges() || junction.right[end] != newest;
    const int32_t done = complete ? newest + 1 : newest;
    auto parts = turns(junction, row, issue.clashes);
    for (size_t n = 0; n < parts.size(); n++) {
      if (accumulates) {
        int64_t free = 0;
        for (const int32_t e : parts[n]) free = std::max(free, last[junction.left[e]] + safe_gap);
        if (stalls && free > clock) {
          issue.hazard_stalls += free - clock;
          clock = free;
        }
        for (const int32_t e : parts[n]) {
          const int32_t left = junction.left[e];
          const int64_t gap = clock - last[left];
          if (gap < safe_gap) {
            issue.hazards.push_back(
                {clock, last[left], junction.memory(left), junction.word(left), gap});
          }
        }
        for (const int32_t e : parts[n]) last[junction.left[e]] = clock;
      }
      Step step{clock, parts[n], started, 0, finished, 0};
      if (n == 0) step.start_count = newest + 1 - started;
      if (n + 1 == parts.size()) step.finish_count = done - finished;
      started += step.start_count;
      finished += step.finish_count;
      issue.steps.push_back(std::move(step));
      clock++;
    }
  }
  issue.clash_stalls = static_cast<int64_t>(issue.steps.size()) - junction.rows();
  return issue;
}

std::vector<int32_t> surviving_edges(const Junction& junction, const Issue& issue, int64_t pipeline,
                                     Policy policy) {
  std::vector<std::vector<Touch>> touches(static_cast<size_t>(junction.n_in));
  for (const Step& step : issue.steps) {
    for (const int32_t e : step.edges) touches[junction.left[e]].push_back({step.clock, e});
  }
  size_t length = 0;
  for (auto& list : touches) {
    if (policy == Policy::emulate && !list.empty()) {
      // from the last write back through the sums that each step found when it read
      std::vector<Touch> kept{list.back()};
      for (auto touch = list.rbegin() + 1; touch != list.rend(); ++touch) {
        if (kept.back().clock - touch->clock >= pipeline + kFlush) kept.push_back(*touch);
      }
      std::reverse(kept.begin(), kept.end());
      list = std::move(kept);
    }
    length = std::max(length, list.size());
  }
  const size_t n_in = touches.size();
  std::vector<int32_t> chain(length * n_in, static_cast<int32_t>(junction.edges()));
  for (size_t n = 0; n < n_in; n++) {
    for (size_t q = 0; q < touches[n].size(); q++) chain[q * n_in + n] = touches[n][q].edge;
  }
  return chain;
}

std::vector<PartialSum> partial_sums(const Junction& junction, const Issue& issue,
                                     int64_t pipeline) {
  std::vector<PartialSum> sums;
  std::vector<std::vector<Touch>> writes(static_cast<size_t>(junction.n_in));
  for (const Step& step : issue.steps) {
    for (const int32_t e : step.edges) {
      auto& before = writes[junction.left[e]];
      auto seen = before.rbegin();
      while (seen != before.rend() && step.clock - seen->clock < pipeline + kFlush) ++seen;
      const bool first = seen == before.rend();
      sums.push_back({e, first ? static_cast<int32_t>(junction.edges()) : seen->edge});
      before.push_back({step.clock, e});
    }
  }
  return sums;
}

}  // namespace dnc::hw
