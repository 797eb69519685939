#include "tests/fs/session/resume_client.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "fs/base/unique_fd.h"

namespace pbkfs::testsupport {
namespace {

std::string Wrong(const char* what, const std::string& name) {
  return std::string(what) + " " + name + ": " + strerror(errno);
}

bool WriteAll(int fd, const std::string& bytes) {
  return write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

std::string ResumeClient::Run(ClientProgress* progress, size_t number) {
  while (!progress->stop.load()) {
    progress->in_operation[number] = true;
    const std::string wrong = Step();
    progress->in_operation[number] = false;
    if (!wrong.empty()) return wrong;
    ++progress->operations;
  }
  return CheckAll();
}

std::string ResumeClient::AnyFile() {
  auto it = files_.begin();
  std::advance(it, static_cast<long>(random_() % files_.size()));
  return it->first;
}

std::string ResumeClient::Step() {
  if (files_.empty()) return Create();
  switch (random_() % 13) {
    case 0:
      return Unlink();
    case 1:
      return Rename();
    case 2:
      return LinkAndUnlink();
    case 3:
      return MakeAndRemoveDirectory();
    case 4:
      return MakeAndRemoveSymlink();
    case 5:
      return UnlinkedButOpen();
    case 6:
      return Overwrite();
    case 7:
      return Append();
    case 8:
      return Truncate();
    case 9:
      return Allocate();
    case 10:
      return List();
    default:
      return Create();
  }
}

std::string ResumeClient::Create() {
  const std::string name = NewName();
  const std::string content = Content();
  const UniqueFd file(open(PathOf(name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  if (!file.valid()) return Wrong("create", name);
  if (!WriteAll(file.get(), content)) return Wrong("write", name);
  files_[name] = content;
  return "";
}

std::string ResumeClient::Unlink() {
  const std::string name = AnyFile();
  if (unlink(PathOf(name).c_str()) != 0) return Wrong("unlink", name);
  files_.erase(name);
  return "";
}

std::string ResumeClient::Rename() {
  const std::string from = AnyFile();
  const std::string to = random_() % 2 == 0 ? NewName() : AnyFile();
  if (rename(PathOf(from).c_str(), PathOf(to).c_str()) != 0) return Wrong("rename", from);
  if (from == to) return "";
  files_[to] = files_[from];
  files_.erase(from);
  return "";
}

std::string ResumeClient::LinkAndUnlink() {
  const std::string from = AnyFile();
  const std::string to = NewName();
  if (link(PathOf(from).c_str(), PathOf(to).c_str()) != 0) return Wrong("link", from);
  // Renaming one name over another of the same file does nothing: keep the model simple.
  if (unlink(PathOf(from).c_str()) != 0) return Wrong("unlink", from);
  files_[to] = files_[from];
  files_.erase(from);
  return "";
}

std::string ResumeClient::MakeAndRemoveDirectory() {
  const std::string name = NewName();
  if (mkdir(PathOf(name).c_str(), 0700) != 0) return Wrong("mkdir", name);
  if (rmdir(PathOf(name).c_str()) != 0) return Wrong("rmdir", name);
  return "";
}

std::string ResumeClient::MakeAndRemoveSymlink() {
  const std::string name = NewName();
  if (symlink("nowhere", PathOf(name).c_str()) != 0) return Wrong("symlink", name);
  if (unlink(PathOf(name).c_str()) != 0) return Wrong("unlink symlink", name);
  return "";
}

std::string ResumeClient::Overwrite() {
  const std::string name = AnyFile();
  const std::string content = Content();
  const UniqueFd file(open(PathOf(name).c_str(), O_WRONLY | O_TRUNC));
  if (!file.valid()) return Wrong("open", name);
  if (!WriteAll(file.get(), content)) return Wrong("overwrite", name);
  if (random_() % 4 == 0 && fsync(file.get()) != 0) return Wrong("fsync", name);
  files_[name] = content;
  return "";
}

std::string ResumeClient::Append() {
  const std::string name = AnyFile();
  const std::string content = Content();
  const UniqueFd file(open(PathOf(name).c_str(), O_WRONLY | O_APPEND));
  if (!file.valid()) return Wrong("open", name);
  if (!WriteAll(file.get(), content)) return Wrong("append", name);
  files_[name] += content;
  return "";
}

std::string ResumeClient::Truncate() {
  const std::string name = AnyFile();
  std::string& content = files_[name];
  const size_t size = random_() % (content.size() + 8);
  if (truncate(PathOf(name).c_str(), static_cast<off_t>(size)) != 0) return Wrong("truncate", name);
  content.resize(size);
  return "";
}

std::string ResumeClient::Allocate() {
  const std::string name = AnyFile();
  std::string& content = files_[name];
  const UniqueFd file(open(PathOf(name).c_str(), O_WRONLY));
  if (!file.valid()) return Wrong("open", name);
  const size_t begin = random_() % (content.size() + 1);
  if (fallocate(file.get(), 0, static_cast<off_t>(begin), 16) != 0) return Wrong("allocate", name);
  if (content.size() < begin + 16) content.resize(begin + 16);
  return "";
}

std::string ResumeClient::UnlinkedButOpen() {
  const std::string name = NewName();
  const UniqueFd file(open(PathOf(name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  if (!file.valid()) return Wrong("create", name);
  if (unlink(PathOf(name).c_str()) != 0) return Wrong("unlink open", name);
  const std::string content = Content();
  if (!WriteAll(file.get(), content)) return Wrong("write unlinked", name);
  std::string back(content.size(), '\0');
  if (pread(file.get(), back.data(), back.size(), 0) != static_cast<ssize_t>(back.size()) ||
      back != content) {
    return Wrong("read unlinked", name);
  }
  return "";
}

// Every name, once.
std::string ResumeClient::List() {
  DIR* directory = opendir(directory_.c_str());
  if (directory == nullptr) return Wrong("opendir", directory_);
  std::map<std::string, int> found;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') ++found[entry->d_name];
  }
  const int error = errno;
  closedir(directory);
  errno = error;
  if (error != 0) return Wrong("readdir", directory_);
  for (const auto& [name, times] : found) {
    if (times != 1 || files_.count(name) == 0) return name + " should not be listed";
  }
  if (found.size() == files_.size()) return "";
  return std::to_string(files_.size() - found.size()) + " files are missing";
}

std::string ResumeClient::CheckAll() {
  std::string wrong = List();
  if (!wrong.empty()) return wrong;
  for (const auto& [name, content] : files_) {
    const UniqueFd file(open(PathOf(name).c_str(), O_RDONLY));
    if (!file.valid()) return Wrong("open", name);
    std::string bytes(content.size() + 8, '\0');
    const ssize_t count = pread(file.get(), bytes.data(), bytes.size(), 0);
    if (count < 0) return Wrong("read", name);
    bytes.resize(static_cast<size_t>(count));
    if (bytes != content) return name + " is '" + bytes + "', not '" + content + "'";
  }
  return "";
}

}  // namespace pbkfs::testsupport
