// Writes the C# binding, the library's layout table and the layout tests from ssmcuda.h.
//
//   SsmCuda.BindingGenerator [--check] [--root FOLDER] [--header FILE]
//
// --check writes nothing and exits with 1 when a committed file is not what the header gives, naming it. Other failures
// exit with 2. --root is the repository (default: the folder above the current one that holds the header).

using SsmCuda.BindingGenerator;

const string headerPath = "native/include/ssmcuda/ssmcuda.h";
var check = false;
string? root = null;
string? headerFile = null;
for (var i = 0; i < args.Length; i++)
{
    switch (args[i])
    {
        case "--check":
            check = true;
            break;
        case "--root" when i + 1 < args.Length:
            root = args[++i];
            break;
        case "--header" when i + 1 < args.Length:
            headerFile = args[++i];
            break;
        default:
            Console.Error.WriteLine($"unknown argument {args[i]}; use [--check] [--root FOLDER] [--header FILE]");
            return 2;
    }
}

try
{
    root ??= FindRoot();
    var header = Header.Read(headerFile ?? Path.Combine(root, headerPath));
    (string Path, string Text)[] files =
    [
        ("managed/SsmCuda/Interop/NativeMethods.g.cs", Writers.Binding(header)),
        ("native/src/core/layout_table.inc", Writers.LayoutTable(header)),
        ("tests/SsmCuda.Tests/Generated/LayoutTests.g.cs", Writers.LayoutTests(header)),
    ];
    var stale = 0;
    foreach (var (path, text) in files)
    {
        var file = Path.Combine(root, path);
        if (File.Exists(file) && File.ReadAllText(file).ReplaceLineEndings("\n") == text)
            continue;
        stale++;
        if (!check)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, text);
        }
        Console.WriteLine(check ? $"{path} is stale: run managed/SsmCuda.BindingGenerator" : $"{path} written");
    }
    return check && stale > 0 ? 1 : 0;
}
catch (HeaderException e)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}

static string FindRoot()
{
    for (var folder = Directory.GetCurrentDirectory(); folder is not null; folder = Path.GetDirectoryName(folder))
    {
        if (File.Exists(Path.Combine(folder, headerPath)))
            return folder;
    }
    throw new HeaderException($"{headerPath} was not found above the current folder; use --root");
}
