using System.Globalization;
using System.Reflection;
using System.Text;

namespace SsmCuda.Tests.Interop;

/// <summary>The public surface against PublicApi.txt, so that it changes on purpose only. With
/// SSMCUDA_WRITE_PUBLIC_API=1 in the environment the file is written instead.</summary>
internal sealed class PublicApiTests
{
    private static readonly Dictionary<Type, string> Keywords = new()
    {
        [typeof(void)] = "void",
        [typeof(bool)] = "bool",
        [typeof(byte)] = "byte",
        [typeof(ushort)] = "ushort",
        [typeof(int)] = "int",
        [typeof(uint)] = "uint",
        [typeof(long)] = "long",
        [typeof(ulong)] = "ulong",
        [typeof(nint)] = "nint",
        [typeof(float)] = "float",
        [typeof(double)] = "double",
        [typeof(string)] = "string",
        [typeof(object)] = "object",
        [typeof(char)] = "char",
    };

    [Test]
    public void The_public_surface_is_the_committed_one()
    {
        var file = Path.Combine(Repository.Root, "tests", "SsmCuda.Tests", "PublicApi.txt");
        var actual = Dump(typeof(SsmContext).Assembly);
        if (Environment.GetEnvironmentVariable("SSMCUDA_WRITE_PUBLIC_API") == "1")
            File.WriteAllText(file, actual);
        var expected = File.ReadAllText(file).ReplaceLineEndings("\n");
        var (before, after) = (expected.Split('\n'), actual.Split('\n'));
        Assert.That(actual, Is.EqualTo(expected), "Set SSMCUDA_WRITE_PUBLIC_API=1 where this is meant.\nGone:\n" +
            string.Join('\n', before.Except(after)) + "\nNew:\n" + string.Join('\n', after.Except(before)));
    }

    private static string Dump(Assembly assembly)
    {
        var text = new StringBuilder();
        foreach (var type in assembly.GetExportedTypes().OrderBy(type => type.FullName, StringComparer.Ordinal))
        {
            text.Append(Describe(type)).Append('\n');
            var members = type.GetMembers(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly)
                .Where(IsVisible).Select(Describe).Where(line => line.Length > 0).Order(StringComparer.Ordinal);
            foreach (var member in members)
                text.Append("    ").Append(member).Append('\n');
        }
        return text.ToString();
    }

    private static bool IsVisible(MemberInfo member) => member switch
    {
        MethodBase method => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly,
        FieldInfo field => field.IsPublic || field.IsFamily || field.IsFamilyOrAssembly,
        PropertyInfo property => property.GetAccessors(true).Any(IsVisible),
        _ => false,
    };

    private static string Describe(Type type)
    {
        var kind = type.IsEnum ? "enum" : type.IsValueType ? (type.IsByRefLike ? "ref struct" : "struct")
            : type.IsInterface ? "interface" : type.IsAbstract && type.IsSealed ? "static class"
            : type.IsAbstract ? "abstract class" : type.IsSealed ? "sealed class" : "class";
        List<string> bases = [];
        if (type.BaseType is { } parent && !type.IsValueType && parent != typeof(object))
            bases.Add(Name(parent));
        if (!type.IsEnum)
            bases.AddRange(type.GetInterfaces().Select(Name).Order(StringComparer.Ordinal));
        return $"{kind} {Name(type)}{(bases.Count > 0 ? " : " + string.Join(", ", bases) : "")}";
    }

    private static string Describe(MemberInfo member)
    {
        switch (member)
        {
            case ConstructorInfo constructor:
                return $"new({Parameters(constructor)})";
            case MethodInfo { IsSpecialName: true } accessor when !accessor.Name.StartsWith("op_", StringComparison.Ordinal):
                return "";
            case MethodInfo method:
                var generic = method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(Name))}>" : "";
                return $"{Static(method)}{Name(method.ReturnType)} {method.Name}{generic}({Parameters(method)})";
            case PropertyInfo property:
                var accessors = property.GetAccessors(true).Where(IsVisible).Select(a => a == property.GetMethod ? "get;"
                    : a.ReturnParameter.GetRequiredCustomModifiers().Length > 0 ? "init;" : "set;");
                return $"{Static(property.GetAccessors(true)[0])}{Name(property.PropertyType)} {property.Name} {{ {string.Join(' ', accessors)} }}";
            case FieldInfo { IsLiteral: true } constant:
                var value = Convert.ToInt64(constant.GetRawConstantValue(), CultureInfo.InvariantCulture);
                return $"const {Name(constant.FieldType)} {constant.Name} = {value}";
            case FieldInfo { IsSpecialName: false } field:
                return $"{Name(field.FieldType)} {field.Name}";
            default:
                return "";
        }
    }

    private static string Static(MethodBase method) =>
        method.IsStatic ? "static " : method.IsAbstract ? "abstract " : method.IsVirtual && !method.IsFinal ? "virtual " : "";

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
    {
        var type = parameter.ParameterType;
        var prefix = parameter.IsDefined(typeof(System.Runtime.CompilerServices.ParamCollectionAttribute)) ? "params " : "";
        if (type.IsByRef)
            (prefix, type) = (parameter.IsOut ? "out " : parameter.IsIn ? "in " : "ref ", type.GetElementType()!);
        return $"{prefix}{Name(type)} {parameter.Name}{(parameter.IsOptional ? " = default" : "")}";
    }));

    private static string Name(Type type)
    {
        if (Keywords.TryGetValue(type, out var keyword))
            return keyword;
        if (type.IsByRef)
            return "ref " + Name(type.GetElementType()!);
        if (type.IsArray)
            return Name(type.GetElementType()!) + "[]";
        if (type.IsGenericParameter)
            return type.Name;
        var name = type.Namespace == "SsmCuda" || type.Namespace!.StartsWith("System", StringComparison.Ordinal) ? type.Name : type.FullName!;
        if (!type.IsGenericType)
            return name;
        return $"{name[..name.IndexOf('`', StringComparison.Ordinal)]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>";
    }
}
