#include "native/base/cgroup.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "test/native/check.h"

namespace {

namespace fs = std::filesystem;
using thalweg::cgroup_limits;

/** A made-up /proc/self/cgroup and /sys/fs/cgroup. */
class Groups {
 public:
  explicit Groups(const std::string& processes) {
    fs::create_directories(root_);
    write("processes", processes);
  }
  ~Groups() { fs::remove_all(root_); }
  Groups& write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
    return *this;
  }
  thalweg::CgroupLimits limits() const {
    return cgroup_limits((root_ / "processes").string(), (root_ / "mount").string());
  }

 private:
  fs::path root_ = fs::temp_directory_path() / ("thalweg-cgroup-" + std::to_string(getpid()));
};

}  // namespace

TEST("a job far below the root has the tightest limit on its way up, in version 2") {
  Groups groups("0::/slurm/job_7/step_0");
  groups.write("mount/memory.max", "max").write("mount/cpu.max", "max 100000");
  groups.write("mount/slurm/memory.max", "64000000000").write("mount/slurm/cpu.max", "1600000 100000");
  groups.write("mount/slurm/job_7/memory.max", "8000000000").write("mount/slurm/job_7/cpu.max", "250000 100000");
  groups.write("mount/slurm/job_7/step_0/memory.max", "max").write("mount/slurm/job_7/step_0/cpu.max", "max 100000");
  groups.write("mount/slurm/job_8/memory.max", "1000");  // another's
  const auto found = groups.limits();
  CHECK(found.memory_bytes && *found.memory_bytes == 8000000000);
  CHECK(found.cpus && *found.cpus == 2.5);
}

TEST("version 1 has its controllers on mounts of their own") {
  Groups groups("9:name=systemd:/a\n5:memory:/a/b\n3:cpu,cpuacct:/a");
  groups.write("mount/memory/memory.limit_in_bytes", "9223372036854771712");
  groups.write("mount/memory/a/b/memory.limit_in_bytes", "5000000000");
  groups.write("mount/cpu/a/cpu.cfs_quota_us", "300000").write("mount/cpu/a/cpu.cfs_period_us", "100000");
  groups.write("mount/cpu/cpu.cfs_quota_us", "-1").write("mount/cpu/cpu.cfs_period_us", "100000");
  groups.write("mount/a/memory.max", "1000");  // version 2 lists no group here
  const auto found = groups.limits();
  CHECK(found.memory_bytes && *found.memory_bytes == 5000000000);
  CHECK(found.cpus && *found.cpus == 3);
}

TEST("in a container that sees only its own mount the root's limit counts; without groups nothing is limited") {
  Groups groups("0::/docker/1234");
  groups.write("mount/memory.max", "2000000000");
  CHECK(groups.limits().memory_bytes == 2000000000u && !groups.limits().cpus);
  CHECK(!cgroup_limits("/nowhere", "/nowhere").memory_bytes);
}

TEST_MAIN()
