// The c_tilde of twice the length: c_tilde (I + a_bar^L).
#include "core/dplr_tilde.h"

#include "core/mutate.h"

using namespace ssm;

extern "C" int32_t ssm_dplr_double_length(ssm_context* context, const ssm_dplr_double_length_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        convert_dplr_rows(contract, args, "c_tilde", args.c_tilde, "c_doubled", args.c_doubled,
                          [](const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps) -> Eigen::RowVectorXcd {
                              return c + SSM_MUTATE("hippo_setup.cpu.minus", 1.0, -1.0) * (c * steps);
                          });
    });
}
