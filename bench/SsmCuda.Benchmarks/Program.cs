using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.EventProcessors;
using BenchmarkDotNet.Exporters;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Perfolizer.Horology;
using SsmCuda.Benchmarks;
using SsmCuda.Tool;

// In this process, because the native library and the build settings are already in place; few and short iterations, because the
// default job takes most of a minute for each of the nanosecond-scale methods.
var job = Job.Default
    .WithToolchain(InProcessEmitToolchain.Instance)
    .WithWarmupCount(3)
    .WithIterationCount(10)
    .WithIterationTime(TimeInterval.FromMilliseconds(100));
var config = ManualConfig.CreateEmpty()
    .AddJob(job)
    .AddDiagnoser(MemoryDiagnoser.Default)
    .AddColumnProvider(DefaultColumnProviders.Instance)
    .AddLogger(NullLogger.Instance)
    .AddEventProcessor(new Progress())
    .WithSummaryStyle(SummaryStyle.Default.WithMaxParameterColumnWidth(120))
    .WithArtifactsPath(Path.Combine(Repository.Root ?? ".", "artifacts", "benchmark"));
var summaries = BenchmarkSwitcher.FromAssembly(typeof(SuiteBenchmarks).Assembly).Run(args, config).ToList();
summaries.ForEach(summary => MarkdownExporter.Console.ExportToLog(summary, ConsoleLogger.Default));
var reports = summaries.SelectMany(summary => summary.Reports).ToList();
return reports.Count > 0 && reports.TrueForAll(report => report.Success) ? 0 : 1;

namespace SsmCuda.Benchmarks
{
    /// <summary>A line for each benchmark that ends, instead of BenchmarkDotNet's line for each of its iterations.</summary>
    internal sealed class Progress : EventProcessor
    {
        public override void OnEndRunBenchmark(BenchmarkCase benchmarkCase, BenchmarkReport report) =>
            Console.WriteLine($"{benchmarkCase.DisplayInfo.Split(':')[0]} {benchmarkCase.Parameters.DisplayInfo}: "
                + (report.ResultStatistics is { } statistics ? $"{statistics.Median:0} ns" : "FAILED"));
    }
}
