#pragma once
#include <cstddef>
#include <optional>
#include <string>

namespace thalweg {

/** What the control groups of this process allow; absent where nothing is limited. */
struct CgroupLimits {
  std::optional<size_t> memory_bytes;
  std::optional<double> cpus;
};

/**
 * The tightest limits from this process's groups up to the root, of both versions of control groups (cgroups(7)): a job
 * under Slurm or systemd has its limits on a group far below the root. `processes` lists the groups of the process,
 * `mount` is where they are mounted. Files that are missing or say "max" limit nothing.
 */
CgroupLimits cgroup_limits(const std::string& processes = "/proc/self/cgroup",
                           const std::string& mount = "/sys/fs/cgroup");

}  // namespace thalweg
