using System.CommandLine;
using SsmCuda.Tool;
using SsmCuda.Tool.Bench;
using SsmCuda.Tool.Verify;

var root = new RootCommand("State-space-model kernels: what is here, whether it is right, and how fast it is.")
{
    InfoCommand.Create(),
    VerifyCommand.Create(),
    BenchCommand.Create(),
};
return root.Parse(args).Invoke();
