# As much of nixpkgs' library as we use, for machines without nixpkgs. Options are checked and merged as there, as far
# as ours go. It offers nothing that ../../used.nix does not list.
let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    functionArgs
    genList
    hasAttr
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    match
    readDir
    readFile
    replaceStrings
    sort
    split
    stringLength
    substring
    tail
    toJSON
    ;

  # Lists, strings and sets.

  singleton = value: [ value ];
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  optionalString = condition: text: if condition then text else "";
  last = list: elemAt list (length list - 1);
  reverse = foldl' (reversed: value: [ value ] ++ reversed) [ ];
  unique = foldl' (seen: value: if elem value seen then seen else seen ++ [ value ]) [ ];
  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: value: listToAttrs (map (name: nameValuePair name (value name)) names);
  filterAttrs =
    keep: set:
    listToAttrs (
      concatMap (name: optional (keep name set.${name}) (nameValuePair name set.${name})) (attrNames set)
    );
  setAttrByPath =
    path: value: if path == [ ] then value else { ${head path} = setAttrByPath (tail path) value; };
  attrByPath = path: set: if path == [ ] then set else attrByPath (tail path) set.${head path};
  # Sets into each other, down to options.
  mergeTrees =
    a: b:
    a
    // mapAttrs (
      name: value: if a ? ${name} && !isOption value then mergeTrees a.${name} value else value
    ) b;
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  removePrefix =
    prefix: text:
    if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  hasSuffix =
    suffix: text:
    let
      rest = stringLength text - stringLength suffix;
    in
    rest >= 0 && substring rest (-1) text == suffix;
  hasInfix = infix: text: replaceStrings [ infix ] [ "" ] text != text || infix == "";
  splitString =
    separator: text:
    filter isString (split (replaceStrings [ "." "\\" ] [ "\\." "\\\\" ] separator) text);

  # Sets of files: some of those below `roots`, and `has` says of the path of a file whether it is one.

  fileset = {
    unions =
      sets:
      let
        filesets = map filesetOf sets;
      in
      {
        _type = "fileset";
        roots = concatMap (set: set.roots) filesets;
        has = path: any (set: set.has path) filesets;
      };
    toSource =
      { root, fileset }:
      let
        set = filesetOf fileset;
        isAbove = path: any (wanted: hasPrefix "${path}/" (toString wanted)) set.roots;
      in
      {
        outPath = builtins.path {
          name = "source";
          path = root;
          filter = path: _type: set.has path || isAbove path;
        };
      };
    toList = set: unique (filter (path: set.has (toString path)) (concatMap filesBelow set.roots));
  };
  filesetOf =
    set:
    if isPath set then
      {
        roots = [ set ];
        has = path: path == toString set || hasPrefix "${toString set}/" path;
      }
    else
      set;
  filesBelow =
    path:
    if builtins.pathExists "${toString path}/." then
      concatMap (name: filesBelow (path + "/${name}")) (attrNames (readDir path))
    else
      [ path ];

  # What a definition may be wrapped in.

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  ordinary = 100;
  ofOption = 1500;

  mkOrder = order: content: {
    _type = "order";
    inherit order content;
  };

  # The definitions that a definition comes to, with their priorities and their places in the order.
  discharge = dischargeAt 1000;
  dischargeAt =
    order: priority: definition:
    let
      wrapper = definition._type or null;
    in
    if wrapper == "if" then
      optionals definition.condition (dischargeAt order priority definition.content)
    else if wrapper == "merge" then
      concatMap (dischargeAt order priority) definition.contents
    else if wrapper == "override" then
      dischargeAt order definition.priority definition.content
    else if wrapper == "order" then
      dischargeAt definition.order priority definition.content
    else
      [
        {
          inherit order priority;
          value = definition;
        }
      ];

  # The wrapped values of a wrapped set; a condition is not looked at, for it may depend on one of them.
  push =
    definition:
    let
      wrapper = definition._type or null;
      into = wrap: map (mapAttrs (_: wrap)) (push definition.content);
    in
    if wrapper == "if" then
      into (mkIf definition.condition)
    else if wrapper == "merge" then
      concatMap push definition.contents
    else if wrapper == "override" then
      into (mkOverride definition.priority)
    else if wrapper == "order" then
      into (mkOrder definition.order)
    else
      [ definition ];

  # Options.

  mkOption = option: option // { _type = "option"; };
  isOption = value: value._type or null == "option";
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  literalMD = text: {
    _type = "literalMD";
    inherit text;
  };
  showOption = concatStringsSep ".";

  # `{ }`, or `{ value }` of all definitions of the highest priority.
  merged =
    type: loc: definitions:
    let
      found = concatMap (discharge ordinary) definitions;
      first = foldl' (lowest: one: if one.priority < lowest then one.priority else lowest) ofOption found;
      values = map (one: one.value) (
        sort (a: b: a.order < b.order) (filter (one: one.priority == first) found)
      );
      wrong = filter (value: !type.check value) values;
    in
    if values == [ ] then
      { }
    else
      {
        value =
          if wrong != [ ] then
            throw "A definition for option `${showOption loc}' is not of type `${type.description}'."
          else
            type.merge loc values;
      };

  # A tree of options with their values, by all definitions of the tree.
  evaluated =
    loc: options: definitions:
    let
      pushed = concatMap push definitions;
      unknown = filter (name: !hasAttr name options) (concatMap attrNames pushed);
      of = name: concatMap (set: optional (set ? ${name}) set.${name}) pushed;
    in
    if unknown != [ ] then
      throw "The option `${showOption (loc ++ [ (head unknown) ])}' does not exist."
    else
      mapAttrs (
        name: option:
        let
          here = loc ++ [ name ];
          given = merged option.type here (of name);
          result = merged option.type here (
            of name ++ optional (option ? default) (mkOverride ofOption option.default)
          );
        in
        if !isOption option then
          evaluated here option (of name)
        else
          option
          // {
            loc = here;
            isDefined = given ? value;
            value = (option.apply or (value: value)) (
              result.value or option.type.emptyValue.value
                or (throw "The option `${showOption here}' is used, but has no value.")
            );
          }
      ) options;

  evalModules =
    {
      modules,
      prefix ? [ ],
    }:
    let
      # In the order in which nixpkgs has it: the last one first, and what a module imports before it.
      flattened = reverse (levels modules);
      levels =
        modules:
        let
          opened = map open modules;
        in
        if modules == [ ] then
          [ ]
        else
          map structured opened ++ levels (concatMap (module: module.imports or [ ]) opened);
      open =
        module:
        if isPath module then
          open (import module)
        else if isFunction module then
          module (argumentsOf module)
        else
          module;
      structured =
        module:
        if module ? options || module ? config then
          module
        else
          { config = removeAttrs module [ "imports" ]; };
      argumentsOf =
        function:
        mapAttrs (name: _: options._module.args.value.${name}) (functionArgs function)
        // {
          inherit config lib options;
        };
      arguments._module.args = mkOption {
        type = types.attrsOf types.unspecified;
        default = { };
        internal = true;
      };
      options = evaluated prefix (foldl' mergeTrees arguments (
        map (module: module.options or { }) flattened
      )) (map (module: module.config or { }) flattened);
      valuesOf = mapAttrs (_: node: if isOption node then node.value else valuesOf node);
      config = removeAttrs (valuesOf options) [ "_module" ];
    in
    {
      inherit config options;
      _module.args = options._module.args.value;
    };

  mkRenamedOptionModule =
    from: to:
    { options, ... }:
    let
      old = attrByPath from options;
    in
    {
      options = setAttrByPath from (mkOption {
        type = types.unspecified;
        visible = false;
      });
      config = mkMerge [
        (setAttrByPath to (mkIf old.isDefined old.value))
        { warnings = mkIf old.isDefined [ "`${showOption from}' has been renamed to `${showOption to}'." ]; }
      ];
    };

  # Types.

  mergeEqual =
    loc: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${showOption loc}' has conflicting definitions.";
  # As what has no type merges: several lists into one, and several sets.
  mergeAny =
    loc: values:
    if length values == 1 then
      head values
    else if all isList values then
      concatLists values
    else if all isAttrs values then
      foldl' (a: b: a // b) { } values
    else
      mergeEqual loc values;

  type =
    fields:
    {
      descriptionClass = null;
      merge = mergeEqual;
      emptyValue = { };
      getSubOptions = _: { };
    }
    // fields;
  noun =
    description: check:
    type {
      inherit description check;
      descriptionClass = "noun";
    };
  restricted =
    description: check:
    type {
      inherit description check;
      descriptionClass = "nonRestrictiveClause";
    };
  # In parentheses where the sentence would be another one without.
  phrase =
    classes: type:
    if elem type.descriptionClass classes then type.description else "(${type.description})";
  isText = value: isString value || isPath value || value ? outPath || value ? __toString;
  oneOf =
    choices:
    let
      of = value: head (filter (choice: choice.check value) choices);
    in
    type {
      description = concatStringsSep " or " (map (phrase [ "noun" "conjunction" ]) choices);
      descriptionClass = "conjunction";
      check = value: any (choice: choice.check value) choices;
      merge = loc: values: (of (head values)).merge loc values;
    };

  # A type of one's own, whose merge gets definitions as in nixpkgs.
  mkOptionType =
    { name, merge }:
    noun name (_: true)
    // {
      merge = loc: values: merge loc (map (value: { inherit value; }) values);
    };

  types = {
    bool = noun "boolean" isBool;
    int = noun "signed integer" isInt;
    str = noun "string" isString;
    lines = noun "strings concatenated with \"\\n\"" isString // {
      merge = _: concatStringsSep "\n";
    };
    nonEmptyStr = noun "non-empty string" (value: isString value && match "[ \t\r\n]*" value == null);
    strMatching =
      pattern:
      noun "string matching the pattern ${pattern}" (
        value: isString value && match pattern value != null
      );
    path = noun "absolute path" (value: isText value && hasPrefix "/" (toString value));
    package = noun "package" (value: value.type or null == "derivation");
    anything = noun "anything" (_: true) // {
      merge = mergeAny;
    };
    unspecified = noun "unspecified value" (_: true) // {
      merge = mergeAny;
    };
    port = noun "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (
      value: isInt value && value >= 0 && value <= 65535
    );
    ints.unsigned = restricted "unsigned integer, meaning >=0" (value: isInt value && value >= 0);
    ints.positive = restricted "positive integer, meaning >0" (value: isInt value && value > 0);
    deferredModule = noun "module" (value: isAttrs value || isFunction value) // {
      merge = _: values: { imports = values; };
    };
    enum =
      values:
      type {
        description = "one of ${concatStringsSep ", " (map toJSON values)}";
        descriptionClass = "conjunction";
        check = value: elem value values;
      };
    nullOr =
      inner:
      type {
        description = "null or ${phrase [ "noun" "conjunction" ] inner}";
        descriptionClass = "conjunction";
        check = value: value == null || inner.check value;
        merge =
          loc: values: if all (value: value == null) values then null else inner.merge loc values;
        emptyValue.value = null;
        inherit (inner) getSubOptions;
      };
    listOf =
      inner:
      type {
        description = "list of ${phrase [ "noun" "composite" ] inner}";
        descriptionClass = "composite";
        check = isList;
        merge =
          loc: values:
          concatMap (
            value:
            let
              one = merged inner (loc ++ [ "*" ]) [ value ];
            in
            optional (one ? value) one.value
          ) (concatLists values);
        emptyValue.value = [ ];
        getSubOptions = loc: inner.getSubOptions (loc ++ [ "*" ]);
      };
    attrsOf =
      inner:
      type {
        description = "attribute set of ${phrase [ "noun" "composite" ] inner}";
        descriptionClass = "composite";
        check = isAttrs;
        merge =
          loc: values:
          let
            sets = concatMap push values;
            all = listToAttrs (
              map (
                name:
                nameValuePair name (
                  merged inner (loc ++ [ name ]) (concatMap (set: optional (set ? ${name}) set.${name}) sets)
                )
              ) (unique (concatMap attrNames sets))
            );
          in
          mapAttrs (_: one: one.value) (filterAttrs (_: one: one ? value) all);
        emptyValue.value = { };
        getSubOptions = loc: inner.getSubOptions (loc ++ [ "<name>" ]);
      };
    either = first: second: oneOf [ first second ];
    inherit oneOf;
    coercedTo =
      from: coerce: to:
      type {
        description = "${phrase [ "noun" ] to} or ${phrase [ "noun" ] from} convertible to it";
        check = value: from.check value && to.check (coerce value) || to.check value;
        merge =
          loc: values:
          to.merge loc (map (value: if from.check value then coerce value else value) values);
        inherit (to) emptyValue getSubOptions;
      };
    submodule =
      module:
      let
        of =
          prefix: more:
          evalModules {
            inherit prefix;
            modules = (if isList module then module else [ module ]) ++ more;
          };
      in
      type {
        description = "submodule";
        check = value: isAttrs value || isFunction value;
        merge =
          loc: values:
          (of loc (
            [ { _module.args.name = last loc; } ]
            ++ map (value: if isAttrs value then { config = value; } else value) values
          )).config;
        emptyValue.value = (of [ ] [ ]).config;
        getSubOptions = loc: (of loc [ ]).options;
      };
  };

  # Documentation.

  optionAttrSetToDocList =
    tree:
    concatMap (
      name:
      let
        node = tree.${name};
        option = {
          inherit (node) loc description;
          name = showOption node.loc;
          type = node.type.description;
          internal = node.internal or false;
          visible = node.visible or true;
        }
        // optionalAttrs (node ? example) { example = shown node.example; }
        // optionalAttrs (node ? default || node ? defaultText) {
          default = shown (node.defaultText or node.default);
        };
      in
      if !isOption node then
        optionAttrSetToDocList node
      else if node.internal or false || !(node.visible or true) then
        [ ]
      else
        [ option ] ++ optionAttrSetToDocList (node.type.getSubOptions node.loc)
    ) (attrNames tree);
  shown = value: if value ? _type && value ? text then value else literalExpression (pretty "" value);
  pretty =
    indent: value:
    let
      inner = "${indent}  ";
      lines =
        open: close: items:
        concatStringsSep "\n" ([ open ] ++ map (item: inner + item) items ++ [ (indent + close) ]);
    in
    if value == [ ] then
      "[ ]"
    else if value == { } then
      "{ }"
    else if isList value then
      lines "[" "]" (map (pretty inner) value)
    else if isAttrs value then
      lines "{" "}" (map (name: "${name} = ${pretty inner value.${name}};") (attrNames value))
    else
      toJSON value;

  lib = {
    inherit
      concatLists
      concatMap
      concatStringsSep
      all
      any
      attrNames
      attrValues
      elem
      evalModules
      fileset
      filter
      filterAttrs
      genAttrs
      genList
      hasInfix
      hasPrefix
      hasSuffix
      isList
      listToAttrs
      literalExpression
      literalMD
      mapAttrs
      mkIf
      mkMerge
      mkOption
      mkOptionType
      mkRenamedOptionModule
      nameValuePair
      optional
      optionalAttrs
      optionalString
      optionals
      optionAttrSetToDocList
      removePrefix
      replaceStrings
      setAttrByPath
      showOption
      singleton
      splitString
      stringLength
      substring
      types
      unique
      ;
    importTOML = file: builtins.fromTOML (readFile file);
    licenses.mit.spdxId = "MIT";
    platforms.linux = [
      "aarch64-linux"
      "x86_64-linux"
    ];
    trivial.release = "26.11";
    mergeEqualOption = loc: definitions: mergeEqual loc (map (definition: definition.value) definitions);
    mkAfter = mkOrder 1500;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    allUnique = list: unique list == list;
    count = found: list: length (filter found list);
    concatStrings = concatStringsSep "";
    concatMapStringsSep = separator: text: list: concatStringsSep separator (map text list);
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    getExe' = package: name: "${package}/bin/${name}";
    escapeShellArg =
      text:
      if match "[[:alnum:],._+:@%/-]+" text != null then
        text
      else
        "'${replaceStrings [ "'" ] [ "'\\''" ] text}'";
  };
in
lib
