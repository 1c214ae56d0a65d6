using System.Diagnostics.CodeAnalysis;
using SsmCuda.Tool.Verify.Operations;

namespace SsmCuda.Tool.Verify;

/// <summary>Every operation whose cases can be run, by its name in the cases; an operation adds its line here.</summary>
internal static class OperationTable
{
    private static readonly Dictionary<string, Action<CaseRun>> Operations = new(StringComparer.Ordinal)
    {
        ["associative_scan"] = AssociativeScanCase.Run,
        ["linear_recurrence"] = LinearRecurrenceCase.Run,
        ["linear_recurrence_backward"] = LinearRecurrenceBackwardCase.Run,
        ["selective_scan"] = SelectiveScanCase.Run,
        ["selective_scan_backward"] = SelectiveScanBackwardCase.Run,
        ["selective_state_update"] = SelectiveStateUpdateCase.Run,
        ["causal_conv"] = CausalConvCase.Run,
        ["causal_conv_backward"] = CausalConvBackwardCase.Run,
        ["causal_conv1d"] = CausalConv1dCase.Run,
        ["causal_conv1d_backward"] = CausalConv1dBackwardCase.Run,
        ["ssd"] = SsdCase.Run,
        ["ssd_backward"] = SsdBackwardCase.Run,
        ["hippo_matrix"] = HippoMatrixCase.Run,
        ["hippo_nplr"] = HippoNplrCase.Run,
        ["hippo_project"] = HippoProjectCase.Run,
        ["hippo_reconstruct"] = HippoReconstructCase.Run,
        ["discretize_dense"] = DiscretizeDenseCase.Run,
        ["dense_kernel"] = DenseKernelCase.Run,
        ["dense_ssm"] = DenseSsmCase.Run,
        ["dplr_ssm"] = DplrSsmCase.Run,
        ["dplr_kernel"] = DplrKernelCase.Run,
        ["cauchy_multiply"] = CauchyMultiplyCase.Run,
        ["cauchy_multiply_backward"] = CauchyMultiplyBackwardCase.Run,
        ["vandermonde_multiply"] = VandermondeMultiplyCase.Run,
        ["vandermonde_multiply_backward"] = VandermondeMultiplyBackwardCase.Run,
        ["discretize_diagonal"] = DiscretizeDiagonalCase.Run,
        ["diagonal_kernel"] = DiagonalKernelCase.Run,
        ["diagonal_ssm"] = DiagonalSsmCase.Run,
    };

    public static IEnumerable<string> Names => Operations.Keys;

    public static bool TryGet(string name, [NotNullWhen(true)] out Action<CaseRun>? operation) =>
        Operations.TryGetValue(name, out operation);
}
