#include "native/base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>

namespace thalweg {

namespace {

template <class T>
void tighten(std::optional<T>& limit, T found) {
  if (found > 0) limit = limit ? std::min(*limit, found) : found;
}

void read_memory(const std::string& file, CgroupLimits& limits) {
  size_t bytes = 0;
  if (std::ifstream in(file); in >> bytes) tighten(limits.memory_bytes, bytes);  // "max" is no number
}

/** Microseconds of CPU per period: of all CPUs together. A quota of "max" (version 2) or -1 (version 1) is none. */
void read_quota(std::istream& quota, std::istream& period, CgroupLimits& limits) {
  double allowed = 0, of = 0;
  if (quota >> allowed && period >> of && of > 0) tighten(limits.cpus, allowed / of);
}

/** Calls `visit` with the folder of a group and those of its ancestors, the root last. */
void up_to_root(const std::string& root, std::string group, const std::function<void(const std::string&)>& visit) {
  while (group.size() > 1) {
    visit(root + group);
    group.resize(group.find_last_of('/'));
  }
  visit(root);
}

bool lists(const std::string& controllers, const std::string& wanted) {
  std::istringstream all(controllers);
  for (std::string one; std::getline(all, one, ',');)
    if (one == wanted) return true;
  return false;
}

}  // namespace

CgroupLimits cgroup_limits(const std::string& processes, const std::string& mount) {
  CgroupLimits limits;
  std::ifstream groups(processes);
  for (std::string line; std::getline(groups, line);) {  // "hierarchy:controllers:/group"; version 2: "0::/group"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty())
      up_to_root(mount, group, [&](const std::string& folder) {
        read_memory(folder + "/memory.max", limits);
        std::ifstream both(folder + "/cpu.max");
        read_quota(both, both, limits);
      });
    if (lists(controllers, "memory"))
      up_to_root(mount + "/memory", group,
                 [&](const std::string& folder) { read_memory(folder + "/memory.limit_in_bytes", limits); });
    if (lists(controllers, "cpu"))
      up_to_root(mount + "/cpu", group, [&](const std::string& folder) {
        std::ifstream quota(folder + "/cpu.cfs_quota_us"), period(folder + "/cpu.cfs_period_us");
        read_quota(quota, period, limits);
      });
  }
  return limits;
}

}  // namespace thalweg
