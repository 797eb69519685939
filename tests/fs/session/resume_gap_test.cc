// One request of each kind that a worker's death leaves without an answer: it is done once, whether
// the worker had read it or executed it, and however many workers die of it; and when its caller
// is killed before the next worker reads it, nothing of it stays behind but what was executed.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/fs/session/resume_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Eventually;
using testsupport::NewShared;
using testsupport::RelayOrders;
using testsupport::ResumeTest;

int Result(int result) { return result == 0 ? 0 : errno; }

int CloseResult(int fd) {
  if (fd < 0) return errno;
  return Result(close(fd));
}

void MakeFile(const std::string& path, const std::string& content) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600));
  ASSERT_TRUE(file.valid()) << path;
  ASSERT_EQ(write(file.get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
}

// Past the kernel's caches: where the caller of fallocate was killed, they keep what they have.
std::string ContentOf(const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_DIRECT));
  testsupport::SizeFromDaemon(file.get());
  testsupport::AlignedBuffer buffer(4096);
  const ssize_t count = pread(file.get(), buffer.data(), buffer.size(), 0);
  return {buffer.data(), count < 0 ? 0 : static_cast<size_t>(count)};
}

// "no", or the type and the number of names.
std::string Kind(const std::string& path) {
  struct stat attributes;
  if (lstat(path.c_str(), &attributes) != 0) return "no";
  switch (attributes.st_mode & S_IFMT) {
    case S_IFREG:
      return "file " + std::to_string(attributes.st_nlink);
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    default:
      return "other";
  }
}

// One request. `d` is a directory that holds the file "file" (content "0123456789") and the empty
// directory "empty".
struct Request {
  const char* name;
  uint32_t opcode;
  std::function<int(const std::string& d)> act;           // 0 or an errno.
  std::function<std::string(const std::string& d)> seen;  // What changes with it …
  std::string after;                                      // … and what that is after it.
};

int WithFile(const std::string& path, int flags, const std::function<int(int)>& body) {
  const UniqueFd file(open(path.c_str(), flags));
  return file.valid() ? body(file.get()) : errno;
}

std::vector<Request> Requests() {
  const auto kind_of = [](const char* name) {
    return [name](const std::string& d) { return Kind(d + "/" + name); };
  };
  const auto content = [](const std::string& d) { return ContentOf(d + "/file"); };
  const auto nothing = [](const std::string&) { return std::string(); };
  return {
      {"create", FUSE_CREATE,
       [](const std::string& d) {
         return CloseResult(open((d + "/new").c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
       },
       kind_of("new"), "file 1"},
      {"mknod", FUSE_MKNOD,
       [](const std::string& d) { return Result(mkfifo((d + "/new").c_str(), 0600)); },
       kind_of("new"), "other"},
      {"mkdir", FUSE_MKDIR,
       [](const std::string& d) { return Result(mkdir((d + "/new").c_str(), 0700)); },
       kind_of("new"), "directory"},
      {"symlink", FUSE_SYMLINK,
       [](const std::string& d) { return Result(symlink("file", (d + "/new").c_str())); },
       kind_of("new"), "symlink"},
      {"link", FUSE_LINK,
       [](const std::string& d) {
         return Result(link((d + "/file").c_str(), (d + "/new").c_str()));
       },
       kind_of("new"), "file 2"},
      {"rename", FUSE_RENAME2,
       [](const std::string& d) {
         return Result(
             renameat2(AT_FDCWD, (d + "/file").c_str(), AT_FDCWD, (d + "/new").c_str(), 1));
       },
       [](const std::string& d) { return Kind(d + "/file") + ", " + Kind(d + "/new"); },
       "no, file 1"},
      {"rename over", FUSE_RENAME,
       [](const std::string& d) {
         return Result(rename((d + "/other").c_str(), (d + "/file").c_str()));
       },
       [](const std::string& d) { return Kind(d + "/other") + ", " + ContentOf(d + "/file"); },
       "no, other"},
      {"unlink", FUSE_UNLINK,
       [](const std::string& d) { return Result(unlink((d + "/file").c_str())); }, kind_of("file"),
       "no"},
      {"rmdir", FUSE_RMDIR,
       [](const std::string& d) { return Result(rmdir((d + "/empty").c_str())); }, kind_of("empty"),
       "no"},
      {"chmod", FUSE_SETATTR,
       [](const std::string& d) { return Result(chmod((d + "/file").c_str(), 0640)); },
       [](const std::string& d) {
         struct stat attributes = {};
         stat((d + "/file").c_str(), &attributes);
         return std::to_string(attributes.st_mode & 0777);
       },
       std::to_string(0640)},
      {"truncate", FUSE_SETATTR,
       [](const std::string& d) { return Result(truncate((d + "/file").c_str(), 3)); }, content,
       "012"},
      {"open that truncates, its open", FUSE_OPEN,
       [](const std::string& d) {
         return CloseResult(open((d + "/file").c_str(), O_WRONLY | O_TRUNC));
       },
       content, ""},
      {"open that truncates, its truncation", FUSE_SETATTR,
       [](const std::string& d) {
         return CloseResult(open((d + "/file").c_str(), O_WRONLY | O_TRUNC));
       },
       content, ""},
      {"append", FUSE_WRITE,
       [](const std::string& d) {
         return WithFile(d + "/file", O_WRONLY | O_APPEND,
                         [](int fd) { return write(fd, "+", 1) == 1 ? 0 : errno; });
       },
       content, "0123456789+"},
      {"fallocate", FUSE_FALLOCATE,
       [](const std::string& d) {
         return WithFile(d + "/file", O_WRONLY,
                         [](int fd) { return Result(fallocate(fd, 0, 8, 4)); });
       },
       content, std::string("0123456789") + std::string(2, '\0')},
      {"punch", FUSE_FALLOCATE,
       [](const std::string& d) {
         return WithFile(d + "/file", O_WRONLY, [](int fd) {
           return Result(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 2));
         });
       },
       content, std::string("0") + std::string(2, '\0') + "3456789"},
      {"fsync", FUSE_FSYNC,
       [](const std::string& d) {
         return WithFile(d + "/file", O_WRONLY, [](int fd) { return Result(fsync(fd)); });
       },
       nothing, ""},
      {"open", FUSE_OPEN,
       [](const std::string& d) { return CloseResult(open((d + "/file").c_str(), O_RDONLY)); },
       nothing, ""},
      {"release", FUSE_RELEASE,
       [](const std::string& d) { return CloseResult(open((d + "/file").c_str(), O_RDONLY)); },
       nothing, ""},
      {"opendir", FUSE_OPENDIR,
       [](const std::string& d) { return CloseResult(open(d.c_str(), O_RDONLY | O_DIRECTORY)); },
       nothing, ""},
      {"read", FUSE_READ,
       [](const std::string& d) {
         char bytes[3];
         return WithFile(d + "/file", O_RDONLY | O_DIRECT, [&bytes](int fd) {
           return pread(fd, bytes, 3, 4) == 3 && bytes[0] == '4' ? 0 : EIO;
         });
       },
       nothing, ""},
      {"readdir", FUSE_READDIRPLUS,
       [](const std::string& d) {
         DIR* directory = opendir(d.c_str());
         if (directory == nullptr) return errno;
         std::set<std::string> names;
         while (const dirent* entry = readdir(directory)) names.insert(entry->d_name);
         closedir(directory);
         return names == std::set<std::string>{".", "..", "file", "other", "empty"} ? 0 : EIO;
       },
       nothing, ""},
  };
}

class ResumeGapTest : public ResumeTest {
 protected:
  void SetUp() override {
    relay_ = NewShared<RelayOrders>();
    ResumeTest::SetUp();
  }

  // A directory as requests expect it.
  std::string MakePlace() {
    const std::string d = At("d" + std::to_string(places_++));
    EXPECT_EQ(mkdir(d.c_str(), 0700), 0);
    MakeFile(d + "/file", "0123456789");
    MakeFile(d + "/other", "other");
    EXPECT_EQ(mkdir((d + "/empty").c_str(), 0700), 0);
    // Asynchronous releases would be taken for the request of the test.
    ExpectNoHandles();
    return d;
  }

  void Order(const Request& request, RelayOrders::Moment moment, int deaths) {
    relay_->opcode = request.opcode;
    relay_->moment = moment;
    relay_->deaths = deaths;
  }

  static bool MakesHandle(uint32_t opcode) {
    return opcode == FUSE_OPEN || opcode == FUSE_CREATE || opcode == FUSE_OPENDIR;
  }

  // The worker dies of the request, and its caller before the next worker reads it.
  void KillCallerInTheGap(const Request& request, RelayOrders::Moment moment,
                          const std::string& d) {
    Order(request, moment, 1);
    const pid_t client = StartClient([&] { return request.act(d); });
    AwaitDeath();
    AskForResend();
    kill(client, SIGKILL);
    EXPECT_EQ(WaitForClient(client), -1);
    StartWorker();
  }

  // What the tests of the gap rely on.
  void ExpectTheKernelToSendAgain() {
    const Request request = Requests().front();
    const std::string d = MakePlace();
    Order(request, RelayOrders::kRead, 1);
    const pid_t client = StartClient([&] { return request.act(d); });
    AwaitDeath();
    StartWorker();
    EXPECT_EQ(WaitForClient(client), 0);
    EXPECT_GT(Resent(), 0u);
  }

  int places_ = 0;
};

TEST_F(ResumeGapTest, ARequestIsDoneOnceHoweverManyWorkersDieOfIt) {
  for (const Request& request : Requests()) {
    for (const auto moment : {RelayOrders::kRead, RelayOrders::kExecuted}) {
      for (const int deaths : {1, 2}) {
        SCOPED_TRACE(testing::Message() << request.name << ", " << deaths << " deaths, "
                                        << (moment == RelayOrders::kRead ? "read" : "executed"));
        if (HasFailure()) return;
        const std::string d = MakePlace();
        const uint64_t resent = Resent();
        Order(request, moment, deaths);
        const pid_t client = StartClient([&] { return request.act(d); });
        for (int death = 0; death < deaths; ++death) {
          AwaitDeath();
          BeginWorker();
          if (HasFatalFailure()) return;
          // One that is to die may do so before it says that it is ready.
          ASSERT_TRUE(AwaitReady() || death + 1 < deaths);
        }
        EXPECT_EQ(WaitForClient(client), 0);
        EXPECT_EQ(request.seen(d), request.after);
        ExpectNoHandles();
        // A session counts what it reads; what its relay died of was not read. A release may be
        // answered after all that the test waits for.
        const uint64_t read = moment == RelayOrders::kExecuted ? static_cast<uint64_t>(deaths) : 1;
        EXPECT_GE(Resent() - resent, request.opcode == FUSE_RELEASE ? 0 : read);
      }
    }
  }
  printf("%lu requests sent again\n", Resent());
  Unmount();
}

TEST_F(ResumeGapTest, ACallerThatIsKilledBeforeItsRequestIsReadAgainLeavesNothingBehind) {
  int killed = 0;
  for (const Request& request : Requests()) {
    if (request.opcode == FUSE_RELEASE) continue;  // Nobody waits for its answer.
    for (const auto moment : {RelayOrders::kRead, RelayOrders::kExecuted}) {
      // The next test.
      if (MakesHandle(request.opcode) && moment == RelayOrders::kExecuted) continue;
      SCOPED_TRACE(testing::Message()
                   << request.name << (moment == RelayOrders::kRead ? ", read" : ", executed"));
      if (HasFailure()) return;
      const std::string d = MakePlace();
      const std::string before = request.seen(d);
      ExpectNoHandles();
      const uint64_t resent = Resent();
      KillCallerInTheGap(request, moment, d);
      ++killed;
      ExpectNoHandles();
      EXPECT_EQ(Resent(), resent) << "the kernel did not take the request back";
      EXPECT_EQ(request.seen(d), moment == RelayOrders::kExecuted ? request.after : before);
    }
  }
  printf("%d callers killed in the gap\n", killed);
  ExpectTheKernelToSendAgain();
  Unmount();
}

// A worker that dies after it has noted that it answers, and before the kernel has the answer: the
// next one can't tell this from an answer that arrived, and keeps the handle. It goes at the latest
// with the mount, and so does a file that it keeps.
TEST_F(ResumeGapTest, AHandleThatTheKernelPerhapsHasIsKeptUntilTheUnmount) {
  for (const Request& request : Requests()) {
    if (!MakesHandle(request.opcode)) continue;
    SCOPED_TRACE(request.name);
    if (HasFailure()) return;
    const std::string d = MakePlace();
    KillCallerInTheGap(request, RelayOrders::kExecuted, d);
    ExpectHandles(1);
    unlink((d + "/new").c_str());
    unlink((d + "/file").c_str());
    Restart();
    Unmount();
    Mount();
  }
  ExpectTheKernelToSendAgain();
}

// The kernel numbers the requests of each connection from the start. What the log tells of an
// earlier connection is no answer to a request that has the same number, kind and name.
TEST_F(ResumeGapTest, AnAnswerIsNotGivenToARequestOfAnotherConnection) {
  const Request request = {"mkdir", FUSE_MKDIR, nullptr, nullptr, ""};
  const auto make = [this] { return Result(mkdir(At("made").c_str(), 0700)); };
  const auto look = [this] { EXPECT_EQ(Kind(target_), "directory"); };
  const auto ask = [this] {
    struct statfs figures;
    ASSERT_EQ(statfs(target_.c_str(), &figures), 0);
  };
  // Far enough from the beginning for the second connection to get there.
  for (int i = 0; i < 100; ++i) ask();
  look();
  Order(request, RelayOrders::kExecuted, 1);
  pid_t client = StartClient(make);
  AwaitDeath();
  const uint64_t first = relay_->last_unique;
  AbortConnection();
  WaitForClient(client);

  Mount();
  ASSERT_EQ(rmdir(At("made").c_str()), 0);
  look();
  // The look-up of the name takes one number.
  for (int i = 0; i < 1000 && relay_->last_unique + 4 < first; ++i) ask();
  Order(request, RelayOrders::kRead, 1);
  client = StartClient(make);
  AwaitDeath();
  EXPECT_EQ(relay_->last_unique, first) << "the two requests have different numbers";
  StartWorker();
  EXPECT_EQ(WaitForClient(client), 0);
  EXPECT_EQ(Kind(At("made")), "directory");
  EXPECT_GT(Resent(), 0u);
  Unmount();
}

}  // namespace
}  // namespace pbkfs
