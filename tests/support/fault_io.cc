#include "tests/support/fault_io.h"

#include <fcntl.h>

#include <utility>

#include "fs/base/status.h"

namespace pbkfs::testsupport {
namespace {

class FaultFile : public IoFile {
 public:
  FaultFile(FaultIo& io, std::unique_ptr<IoFile> file, std::string name)
      : io_(io), file_(std::move(file)), name_(std::move(name)) {}

  absl::StatusOr<size_t> Read(int64_t offset, absl::Span<uint8_t> out) override {
    PBKFS_RETURN_IF_ERROR(io_.Before("read", name_));
    return file_->Read(offset, out);
  }
  absl::Status Write(int64_t offset, absl::Span<const uint8_t> data) override {
    const absl::Status status = io_.Before("write", name_);
    if (status.ok()) return file_->Write(offset, data);
    if (io_.short_writes()) {
      PBKFS_RETURN_IF_ERROR(file_->Write(offset, data.subspan(0, data.size() / 2)));
    }
    return status;
  }
  absl::Status Truncate(int64_t size) override {
    return Do("truncate", [&] { return file_->Truncate(size); });
  }
  absl::Status Allocate(int mode, int64_t offset, int64_t length) override {
    return Do("allocate", [&] { return file_->Allocate(mode, offset, length); });
  }
  absl::Status DataSync() override {
    return Do("sync", [&] { return file_->DataSync(); });
  }
  void StartWriteback(int64_t offset, int64_t length) override {
    if (io_.Before("writeback", name_).ok()) file_->StartWriteback(offset, length);
  }
  absl::StatusOr<struct stat> Stat() override { return file_->Stat(); }
  absl::Status SetTimes(const struct timespec times[2]) override { return file_->SetTimes(times); }
  absl::StatusOr<int64_t> Seek(int64_t offset, int whence) override {
    return file_->Seek(offset, whence);
  }
  absl::StatusOr<bool> TryLock() override { return file_->TryLock(); }

 private:
  template <typename Call>
  absl::Status Do(const char* operation, Call call) {
    const absl::Status status = io_.Before(operation, name_);
    return status.ok() ? call() : status;
  }

  FaultIo& io_;
  const std::unique_ptr<IoFile> file_;
  const std::string name_;
};

class FaultDir : public IoDir {
 public:
  FaultDir(FaultIo& io, std::unique_ptr<IoDir> dir) : io_(io), dir_(std::move(dir)) {}

  absl::StatusOr<std::unique_ptr<IoFile>> OpenFile(absl::string_view name, int flags,
                                                   mode_t mode) override {
    if ((flags & O_CREAT) != 0) PBKFS_RETURN_IF_ERROR(io_.Before("create", std::string(name)));
    auto file = dir_->OpenFile(name, flags, mode);
    if (!file.ok()) return file.status();
    return std::make_unique<FaultFile>(io_, *std::move(file), std::string(name));
  }
  absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(absl::string_view name) override {
    auto dir = dir_->OpenDir(name);
    if (!dir.ok()) return dir.status();
    return std::make_unique<FaultDir>(io_, *std::move(dir));
  }
  absl::Status MakeDir(absl::string_view name, mode_t mode) override {
    return dir_->MakeDir(name, mode);
  }
  absl::Status Remove(absl::string_view name) override { return dir_->Remove(name); }
  absl::Status Rename(absl::string_view name, IoDir& new_directory,
                      absl::string_view new_name) override {
    PBKFS_RETURN_IF_ERROR(io_.Before("rename", std::string(name)));
    return dir_->Rename(name, *static_cast<FaultDir&>(new_directory).dir_, new_name);
  }
  absl::StatusOr<std::vector<std::string>> List() override { return dir_->List(); }
  absl::StatusOr<struct stat> Stat() override { return dir_->Stat(); }
  absl::StatusOr<DirIdentity> Identity() override { return dir_->Identity(); }
  absl::StatusOr<struct statvfs> FileSystem() override { return dir_->FileSystem(); }
  absl::Status Sync() override {
    PBKFS_RETURN_IF_ERROR(io_.Before("sync", "."));
    return dir_->Sync();
  }
  absl::Status SyncFileSystem() override { return dir_->SyncFileSystem(); }

 private:
  FaultIo& io_;
  const std::unique_ptr<IoDir> dir_;
};

}  // namespace

void FaultIo::set_hook(Hook hook) {
  MutexLock lock(&mutex_);
  hook_ = hook ? std::make_shared<const Hook>(std::move(hook)) : nullptr;
}

std::vector<std::string> FaultIo::TakeEvents() {
  MutexLock lock(&mutex_);
  return std::exchange(events_, {});
}

absl::Status FaultIo::Before(const std::string& operation, const std::string& name) {
  std::shared_ptr<const Hook> hook;
  {
    MutexLock lock(&mutex_);
    if (operation != "read") events_.push_back(operation + " " + name);
    hook = hook_;
  }
  return hook == nullptr ? absl::OkStatus() : (*hook)(operation, name);
}

absl::StatusOr<std::unique_ptr<IoDir>> FaultIo::OpenDir(const std::string& path) {
  auto dir = base_.OpenDir(path);
  if (!dir.ok()) return dir.status();
  return std::make_unique<FaultDir>(*this, *std::move(dir));
}

absl::Status FaultIo::MakeDir(const std::string& path, mode_t mode) {
  return base_.MakeDir(path, mode);
}

}  // namespace pbkfs::testsupport
