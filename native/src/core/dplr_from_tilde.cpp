// c = c_tilde (I - a_bar^L)^-1.
#include "core/dplr_tilde.h"

#include "core/mutate.h"

using namespace ssm;

extern "C" int32_t ssm_dplr_from_tilde(ssm_context* context, const ssm_dplr_from_tilde_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        convert_dplr_rows(contract, args, "c_tilde", args.c_tilde, "c", args.c,
                          [](const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps) -> Eigen::RowVectorXcd {
                              const Eigen::MatrixXcd one = Eigen::MatrixXcd::Identity(steps.rows(), steps.cols());
                              return (one - SSM_MUTATE("hippo_setup.cpu.plus", 1.0, -1.0) * steps)
                                  .transpose()
                                  .partialPivLu()
                                  .solve(c.transpose())
                                  .transpose();
                          });
    });
}
