using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace SsmCuda.BindingGenerator;

/// <summary>A declaration that the binding cannot carry, or a compiler that does not answer; the message says which.</summary>
internal sealed class HeaderException(string message) : Exception(message);

internal sealed record Field(string Name, string Type, string Comment);

internal sealed record Struct(string Name, IReadOnlyList<Field> Fields, string Comment);

internal sealed record EnumMember(string Name, long Value, string Comment);

internal sealed record NativeEnum(string Name, IReadOnlyList<EnumMember> Members, string Comment);

internal sealed record Parameter(string Name, string Type);

internal sealed record Function(string Name, string ReturnType, IReadOnlyList<Parameter> Parameters, string Comment);

/// <summary>What ssmcuda.h declares, read from clang's JSON syntax tree. Types stay in their C spelling.</summary>
internal sealed partial class Header
{
    public List<Struct> Structs { get; } = [];
    public List<NativeEnum> Enums { get; } = [];
    public List<Function> Functions { get; } = [];
    /// <summary>Structs that are declared and not defined: handles.</summary>
    public SortedSet<string> Opaque { get; } = new(StringComparer.Ordinal);
    /// <summary>Integer macros, SSM_ABI_VERSION.</summary>
    public SortedDictionary<string, long> Macros { get; } = new(StringComparer.Ordinal);

    public static Header Read(string path)
    {
        var clang = FindClang();
        var header = new Header();
        var tree = Run(clang, ["-x", "c", "-std=c11", "-fsyntax-only", "-fparse-all-comments", "-Xclang", "-ast-dump=json", path]);
        // Locations are delta-encoded, so that the file of a declaration is not told by the declaration: names tell ours.
        using var document = JsonDocument.Parse(tree, new JsonDocumentOptions { MaxDepth = 512 });
        header.ReadTree(document.RootElement);
        foreach (Match match in IntegerMacro().Matches(Run(clang, ["-x", "c", "-dM", "-E", path])))
            header.Macros[match.Groups[1].Value] = long.Parse(match.Groups[2].Value, null);
        return header;
    }

    [GeneratedRegex(@"^#define (SSM_\w+) (\d+)$", RegexOptions.Multiline)]
    private static partial Regex IntegerMacro();

    private static bool IsOurs(string name) =>
        name.StartsWith("ssm_", StringComparison.Ordinal) || name.StartsWith("DL", StringComparison.Ordinal);

    private void ReadTree(JsonElement root)
    {
        // A typedef of an unnamed struct or enum follows it and gives it its name.
        var unnamed = new Dictionary<string, JsonElement>();
        var seen = new HashSet<string>();
        foreach (var node in root.GetProperty("inner").EnumerateArray())
        {
            var kind = node.GetProperty("kind").GetString();
            var name = NameOf(node);
            switch (kind)
            {
                case "RecordDecl" or "EnumDecl" when name.Length == 0:
                    unnamed[node.GetProperty("id").GetString()!] = node;
                    break;
                case "RecordDecl" or "EnumDecl" when IsOurs(name) && seen.Add(name):
                    AddType(node, name);
                    break;
                case "TypedefDecl" when IsOurs(name) && OwnedTag(node) is { } id && unnamed.TryGetValue(id, out var type)
                                        && seen.Add(name):
                    AddType(type, name);
                    break;
                case "FunctionDecl" when IsOurs(name):
                    AddFunction(node, name);
                    break;
            }
        }
    }

    private void AddType(JsonElement node, string name)
    {
        if (node.GetProperty("kind").GetString() == "EnumDecl")
        {
            var next = 0L;
            var commented = new HashSet<long>();
            var members = new List<EnumMember>();
            foreach (var member in Children(node, "EnumConstantDecl"))
            {
                if (Children(member, "ConstantExpr").FirstOrDefault() is { ValueKind: JsonValueKind.Object } value)
                    next = long.Parse(value.GetProperty("value").GetString()!, null);
                // clang gives the comment of one member to those after it too: only the first is meant.
                var comment = Children(member, "FullComment").FirstOrDefault();
                var isOwn = comment.ValueKind == JsonValueKind.Object
                            && commented.Add(comment.GetProperty("loc").GetProperty("offset").GetInt64());
                members.Add(new EnumMember(NameOf(member), next++, isOwn ? CommentOf(member) : ""));
            }
            Enums.Add(new NativeEnum(name, members, CommentOf(node)));
        }
        else if (node.TryGetProperty("completeDefinition", out _))
        {
            var fields = Children(node, "FieldDecl").Select(field =>
            {
                var type = TypeOf(field);
                Refuse(type, $"{name}.{NameOf(field)}", field);
                return new Field(NameOf(field), type, CommentOf(field));
            });
            Structs.Add(new Struct(name, [.. fields], CommentOf(node)));
        }
        else
        {
            Opaque.Add(name);
        }
    }

    private void AddFunction(JsonElement node, string name)
    {
        if (node.TryGetProperty("variadic", out _))
            throw new HeaderException($"{name}: a variable number of arguments cannot be bound");
        var parameters = Children(node, "ParmVarDecl").Select(parameter =>
        {
            var type = TypeOf(parameter);
            Refuse(type, $"{name}({NameOf(parameter)})", parameter);
            if (Structs.Any(s => s.Name == type))
                throw new HeaderException($"{name}({NameOf(parameter)}): a struct by value ({type}) cannot be bound; pass a pointer");
            return new Parameter(NameOf(parameter), type);
        }).ToList();
        var signature = TypeOf(node);
        var returns = signature[..signature.IndexOf('(', StringComparison.Ordinal)].Trim();
        Refuse(returns, name, node);
        if (Structs.Any(s => s.Name == returns))
            throw new HeaderException($"{name}: a struct by value ({returns}) cannot be returned; return it through a pointer");
        Functions.Add(new Function(name, returns, parameters, CommentOf(node)));
    }

    /// <summary>Types whose size differs between platforms or that marshalling would have to convert.</summary>
    private static void Refuse(string type, string where, JsonElement node)
    {
        var words = Word().Matches(type).Select(m => m.Value).ToHashSet();
        if (words.Contains("long"))
            throw new HeaderException($"{where}: long has another size on Windows; use int64_t ({type})");
        if (words.Contains("bool") || words.Contains("_Bool"))
            throw new HeaderException($"{where}: bool is not blittable; use int32_t ({type})");
        if (words.Contains("size_t"))
            throw new HeaderException($"{where}: size_t differs between platforms; use uint64_t ({type})");
        if (node.TryGetProperty("isBitfield", out _))
            throw new HeaderException($"{where}: bit fields have no fixed layout");
    }

    [GeneratedRegex(@"\w+")]
    private static partial Regex Word();

    private static IEnumerable<JsonElement> Children(JsonElement node, string kind) =>
        node.TryGetProperty("inner", out var inner)
            ? inner.EnumerateArray().Where(child => child.GetProperty("kind").GetString() == kind)
            : [];

    private static string NameOf(JsonElement node) => node.TryGetProperty("name", out var name) ? name.GetString()! : "";

    private static string TypeOf(JsonElement node) => node.GetProperty("type").GetProperty("qualType").GetString()!;

    private static string? OwnedTag(JsonElement typedef) =>
        Children(typedef, "ElaboratedType").FirstOrDefault() is { ValueKind: JsonValueKind.Object } elaborated &&
        elaborated.TryGetProperty("ownedTagDecl", out var tag)
            ? tag.GetProperty("id").GetString()
            : null;

    /// <summary>The text of a documentation comment with its white space collapsed.</summary>
    private static string CommentOf(JsonElement node)
    {
        var text = new StringBuilder();
        foreach (var comment in Children(node, "FullComment"))
            Collect(comment);
        return Space().Replace(text.ToString(), " ").Trim();

        void Collect(JsonElement part)
        {
            var kind = part.GetProperty("kind").GetString();
            if (kind is not ("FullComment" or "ParagraphComment" or "TextComment"))
                throw new HeaderException($"{NameOf(node)}: its comment has markup ({kind}); write plain text");
            if (part.TryGetProperty("text", out var line))
                text.Append(line.GetString()).Append(' ');
            if (part.TryGetProperty("inner", out var inner))
            {
                foreach (var child in inner.EnumerateArray())
                    Collect(child);
            }
        }
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Space();

    private static string FindClang()
    {
        string[] names = ["clang-14", "clang", "clang-15", "clang-16", "clang-17", "clang-18", "clang-19"];
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator);
        foreach (var name in names)
        {
            foreach (var folder in folders.Where(folder => folder.Length > 0))
            {
                foreach (var file in (string[])[Path.Combine(folder, name), Path.Combine(folder, name + ".exe")])
                {
                    if (File.Exists(file))
                        return file;
                }
            }
        }
        throw new HeaderException("clang was not found on PATH (Debian: apt-get install clang-14)");
    }

    private static string Run(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start) ?? throw new HeaderException($"{program} did not start");
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new HeaderException($"{program} failed:\n{errors.GetAwaiter().GetResult()}");
    }
}
