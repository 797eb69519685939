// What the commands print on stdout: tables for people, proto3 JSON for programs.
#ifndef PBKFS_CLIENT_OUTPUT_H_
#define PBKFS_CLIENT_OUTPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "google/protobuf/message.h"
#include "google/protobuf/timestamp.pb.h"
#include "pbkfs/v1/catalog.pb.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs::client {

// Columns padded to their widest cell, two spaces apart; the last column is not padded. The first
// row is the header.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);
// 1536 -> "1.5 KiB"; negative -> "-".
std::string FormatBytes(int64_t bytes);

// Local time, to the second.
std::string TimeText(const google::protobuf::Timestamp& time);

// The message as indented proto3 JSON with all fields, and a newline.
std::string ToJson(const google::protobuf::Message& message);

std::string MountText(const v1::Mount& mount, bool dry_run);
std::string UnmountText(const v1::UnmountResponse& response);
std::string ListText(const v1::ListMountsResponse& response);
std::string BackupsText(const v1::ListBackupsResponse& response);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_OUTPUT_H_
