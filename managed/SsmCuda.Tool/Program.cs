using System.CommandLine;
using SsmCuda.Tool;
using SsmCuda.Tool.Bench;
using SsmCuda.Tool.Pictures;
using SsmCuda.Tool.Verify;

var root = new RootCommand("State-space-model kernels: what is here, whether it is right, how fast it is, what it draws.")
{
    InfoCommand.Create(),
    VerifyCommand.Create(),
    BenchCommand.Create(),
    HippoCommand.Create(),
    SpringCommand.Create(),
};
return root.Parse(args).Invoke();
