// c_tilde = c (I - a_bar^L).
#include "core/dplr_tilde.h"

#include "core/mutate.h"

using namespace ssm;

extern "C" int32_t ssm_dplr_to_tilde(ssm_context* context, const ssm_dplr_to_tilde_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        convert_dplr_rows(contract, args, "c", args.c, "c_tilde", args.c_tilde,
                          [](const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps) -> Eigen::RowVectorXcd {
                              return c - SSM_MUTATE("hippo_setup.cpu.no_power", 1.0, 0.0) * (c * steps);
                          });
    });
}
