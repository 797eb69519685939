// What the commands print on stdout, tables for people and proto3 JSON for programs, and the next
// steps that people are told on stderr.
#ifndef PBKFS_CLIENT_OUTPUT_H_
#define PBKFS_CLIENT_OUTPUT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "client/table.h"
#include "google/protobuf/message.h"
#include "google/protobuf/timestamp.pb.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs::client {

// 1536 -> "1.5 KiB"; negative -> "-".
std::string FormatBytes(int64_t bytes);

// Local time, to the second.
std::string TimeText(const google::protobuf::Timestamp& time);

// The message as indented proto3 JSON with all fields, and a newline.
std::string ToJson(const google::protobuf::Message& message);

// "MOUNT_STATE_ACTIVE", "MOUNT_STATE_" -> "active".
std::string EnumText(absl::string_view name, absl::string_view prefix);

std::string MountText(const v1::Mount& mount, bool dry_run, const Palette& palette = Palette());
std::string UnmountText(const v1::UnmountResponse& response);
std::string ListText(const v1::ListMountsResponse& response, const Palette& palette = Palette());

// What to do now, as one line without "next step: "; "" = nothing.
std::string MountNextStep(const v1::Mount& mount, bool dry_run);
std::string UnmountNextStep(const v1::UnmountResponse& response);
std::string ListNextStep(const v1::ListMountsResponse& response);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_OUTPUT_H_
