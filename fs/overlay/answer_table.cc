#include "fs/overlay/answer_table.h"

#include <utility>

#include "spdlog/spdlog.h"

namespace pbkfs {

void AnswerTable::Load(std::vector<AnswerRecord> answers) {
  MutexLock lock(&mutex_);
  for (AnswerRecord& answer : answers) {
    const uint64_t unique = answer.request.unique;
    loaded_.insert_or_assign(unique, std::move(answer));
  }
}

std::optional<uint64_t> AnswerTable::Find(const AnswerRecord& request) const {
  MutexLock lock(&mutex_);
  const auto found = loaded_.find(request.request.unique);
  if (found == loaded_.end()) return std::nullopt;
  const AnswerRecord& answer = found->second;
  if (answer.request == request.request && answer.parent == request.parent &&
      answer.name == request.name && answer.new_parent == request.new_parent &&
      answer.new_name == request.new_name) {
    return answer.ino;
  }
  spdlog::error(
      "request {} (operation {}, '{}') has the number of another one (operation {}, '{}')",
      request.request.unique, request.request.opcode, request.name, answer.request.opcode,
      answer.name);
  return std::nullopt;
}

void AnswerTable::Remember(AnswerRecord answer) {
  const uint64_t unique = answer.request.unique;
  if (unique == 0) return;
  MutexLock lock(&mutex_);
  executed_.insert_or_assign(unique, std::move(answer));
}

void AnswerTable::Answered(uint64_t unique) {
  MutexLock lock(&mutex_);
  executed_.erase(unique);
}

void AnswerTable::EndOfResends() {
  MutexLock lock(&mutex_);
  loaded_.clear();
}

std::vector<AnswerRecord> AnswerTable::Unanswered() const {
  std::vector<AnswerRecord> answers;
  MutexLock lock(&mutex_);
  for (const auto* table : {&loaded_, &executed_}) {
    for (const auto& [unique, answer] : *table) answers.push_back(answer);
  }
  return answers;
}

}  // namespace pbkfs
