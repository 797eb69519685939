#include "fs/diff/block_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace pbkfs {
namespace {

TEST(BlockSetTest, AgreesWithASetOfNumbersUnderRandomChanges) {
  std::mt19937_64 random(1);
  BlockSet set;
  std::set<int64_t> model;
  for (int step = 0; step < 3000; ++step) {
    const auto first = static_cast<int64_t>(random() % 40000);
    if (random() % 20 == 0) {
      set.RemoveFrom(first);
      model.erase(model.lower_bound(first), model.end());
    } else {
      const auto count = static_cast<int64_t>(random() % 100);
      set.AddRange(first, count);
      for (int64_t block = first; block < first + count; ++block) model.insert(block);
    }
    const auto probe = static_cast<int64_t>(random() % 41000);
    ASSERT_EQ(set.Contains(probe), model.contains(probe)) << "step " << step;
    ASSERT_EQ(set.size(), static_cast<int64_t>(model.size())) << "step " << step;
    ASSERT_EQ(set.End(), model.empty() ? 0 : *model.rbegin() + 1) << "step " << step;
    const auto [start, length] = set.NextRun(probe, 1 << 20);
    const auto next = model.lower_bound(probe);
    if (next == model.end()) {
      ASSERT_EQ(length, 0);
    } else {
      ASSERT_EQ(start, *next);
      int64_t expected = 0;
      while (model.contains(start + expected)) ++expected;
      ASSERT_EQ(length, expected);
    }
    int64_t same = 1;
    while (same < 500 && model.contains(probe + same) == model.contains(probe)) ++same;
    ASSERT_EQ(set.CountSame(probe, 500), same) << "step " << step;
  }
}

}  // namespace
}  // namespace pbkfs
