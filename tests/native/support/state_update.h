// selective_state_update as the selective scan from an initial state that it is.
#pragma once

#include "support/reference.h"

namespace ssm::test {

// Heads become channels, each with its head's parameters; rows that are skipped start from zero.
Problem as_selective_scan(const Problem& update);

// The outputs of that scan as the update's: skipped rows are zero, untouched slots as they were.
Outputs as_state_update(const Problem& update, const Outputs& scan);
Reference state_update_reference(const Problem& update);

} // namespace ssm::test
