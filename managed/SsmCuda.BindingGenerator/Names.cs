using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace SsmCuda.BindingGenerator;

/// <summary>How names and types of C read in C#.</summary>
internal static partial class Names
{
    /// <summary>struct_size becomes StructSize; an acronym is a word (Dt, Abi).</summary>
    public static string Pascal(string name)
    {
        var text = new StringBuilder();
        foreach (var word in name.Split('_', StringSplitOptions.RemoveEmptyEntries))
            text.Append(char.ToUpperInvariant(word[0])).Append(word[1..]);
        return text.ToString();
    }

    public static string Camel(string name)
    {
        var pascal = Pascal(name);
        var camel = char.ToLowerInvariant(pascal[0]) + pascal[1..];
        return camel is "event" or "struct" or "value" or "in" or "out" or "ref" ? "@" + camel : camel;
    }

    /// <summary>ssm_device_type becomes SsmDeviceType; DLPack's types keep their names.</summary>
    public static string Type(string name) => name.StartsWith("DL", StringComparison.Ordinal) ? name : Pascal(name);

    /// <summary>ssm_context_create becomes ContextCreate.</summary>
    public static string Function(string name) => Pascal(name["ssm_".Length..]);

    /// <summary>The part of a member's name that its enum does not already say.</summary>
    public static string Member(NativeEnum owner, EnumMember member)
    {
        if (!member.Name.StartsWith("SSM_", StringComparison.Ordinal))
            return member.Name[1..]; // kDLFloat
        var words = owner.Members.Select(m => m.Name.Split('_')).ToList();
        var common = 0;
        while (words.All(w => w.Length > common + 1 && w[common] == words[0][common]))
            common++;
        var rest = member.Name.Split('_')[common..];
        if (rest is ["ERROR", ..])
            rest = rest[1..];
        return string.Concat(rest.Select(w => w[0] + w[1..].ToLower(CultureInfo.InvariantCulture)));
    }

    /// <summary>"int32_t", "const DLTensor *", "void (*)(void *, int32_t)": what C# calls them.</summary>
    public static string CSharp(string type, Header header, string where)
    {
        type = Regex.Replace(type, @"\b(const|struct|enum)\b", "").Trim();
        if (FunctionPointer().Match(type) is { Success: true } pointer)
        {
            var arguments = pointer.Groups[2].Value.Split(',').Select(argument => CSharp(argument.Trim(), header, where));
            return $"delegate* unmanaged<{string.Join(", ", arguments)}, {CSharp(pointer.Groups[1].Value, header, where)}>";
        }
        var stars = type.Count(c => c == '*');
        var name = type.Replace("*", "", StringComparison.Ordinal).Trim();
        var csharp = name switch
        {
            "void" => "void",
            "char" => "byte",
            "int8_t" => "sbyte",
            "uint8_t" => "byte",
            "int16_t" => "short",
            "uint16_t" => "ushort",
            "int32_t" or "int" => "int",
            "uint32_t" => "uint",
            "int64_t" => "long",
            "uint64_t" => "ulong",
            "float" => "float",
            "double" => "double",
            _ when header.Opaque.Contains(name) && stars > 0 => "nint",
            _ when header.Structs.Any(s => s.Name == name) || header.Enums.Any(e => e.Name == name) => Type(name),
            _ => throw new HeaderException($"{where}: no C# type is known for {type}"),
        };
        if (csharp == "nint")
            stars--;
        return csharp + new string('*', stars);
    }

    [GeneratedRegex(@"^(.+?)\s*\(\*\)\((.*)\)$")]
    private static partial Regex FunctionPointer();

    /// <summary>The length of "char[256]", or null.</summary>
    public static int? ArrayLength(ref string type)
    {
        var match = Regex.Match(type, @"^(\w+)\[(\d+)\]$");
        if (!match.Success)
            return null;
        type = match.Groups[1].Value;
        return int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture);
    }
}
