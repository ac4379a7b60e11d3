//! The description of the admin API (`OpenAPI` 3.1), made from the list of what is answered.

use probegate_policies::access::TokenSet;
use serde_json::{Map, Value, json};

use super::RESOURCES;
use super::route::{Access, Answer, Call, Resource, Route};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/openapi.json"),
    routes: &[Route {
        method: "GET",
        path: "/openapi.json",
        access: Access::Open,
        summary: "This description",
        parameters: &[],
        schema: "Description",
        answer: Answer::Json(|call| Ok(describe(call))),
    }],
};

fn describe(call: &Call<'_>) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in RESOURCES {
        for route in resource.routes {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            if let Some(path) = path.as_object_mut() {
                path.insert(route.method.to_ascii_lowercase(), operation(route));
            }
        }
        if let Ok(Value::Object(more)) = serde_json::from_str(resource.schemas) {
            schemas.extend(more);
        }
    }
    let tokens = &call.active.plan.admin_tokens;
    let (read, write) = (tokens.read.as_deref(), tokens.write.as_deref());
    let scheme = |set: Option<&TokenSet>, text| {
        let field = set.map_or("x-probe-token", |set| set.field.as_str());
        json!({"type": "apiKey", "in": "header", "name": field, "description": text})
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "probegate: admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the gateway tells about itself and its services, and what people may turn. Times are seconds since the epoch, \
                and milliseconds where they stand beside single requests. Fields may be added.",
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "read": scheme(read.or(write), "A token of those who may look, where the configuration names tokens."),
                "write": scheme(write.or(read), "A token of those who may look, and change something, where the configuration names tokens."),
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of either, for programs that know no other field."},
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let names = names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let schema = |text: &str| serde_json::from_str(text).unwrap_or(Value::Bool(true));
    let query = route.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.text,
            "schema": schema(parameter.schema),
        })
    });
    let mut parameters: Vec<Value> = names.chain(query).collect();
    if route.access == Access::Write {
        parameters.push(json!({
            "name": super::FIELD,
            "in": "header",
            "required": true,
            "description": "Keeps pages of the Web from changing anything.",
            "schema": {"const": "1"},
        }));
    }
    let content = |media: &str| {
        let schema = match route.schema {
            name if is_text(name) => json!({"type": "string"}),
            name => json!({"$ref": format!("#/components/schemas/{name}")}),
        };
        json!({media: {"schema": schema}})
    };
    let content = content(match route.schema {
        "" => "text/plain",
        name if is_text(name) => name,
        _ => "application/json",
    });
    let mut responses = json!({
        "200": {"description": route.summary, "content": content},
        "default": {
            "description": "Refused, and why",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        },
    });
    if route.path == "/readyz"
        && let Some(responses) = responses.as_object_mut()
    {
        responses.insert("503".to_owned(), json!({"description": "It takes no traffic", "content": content}));
    }
    let id: Vec<_> = route.path.split(['/', '{', '}', '.']).filter(|part| !part.is_empty()).collect();
    json!({
        "operationId": format!("{}_{}", route.method.to_ascii_lowercase(), id.join("_")),
        "tags": [id.first()],
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
        "security": match route.access {
            Access::Open => json!([]),
            Access::Metrics | Access::Read => json!([{"read": []}, {"write": []}, {"bearer": []}, {}]),
            Access::Write => json!([{"write": []}, {"bearer": []}, {}]),
        },
    })
}

/// Whether what is there in the place of a schema says that there is none.
fn is_text(schema: &str) -> bool {
    schema.is_empty() || schema.contains('/')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn schemas_are_json_and_all_there_and_each_name_is_used_once() {
        let mut known = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        for resource in RESOURCES {
            let Value::Object(schemas) = serde_json::from_str(resource.schemas).unwrap() else { panic!("no object") };
            for (name, schema) in schemas {
                let text = schema.to_string();
                let named = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
                wanted.extend(named.map(str::to_owned));
                assert!(known.insert(name.clone()), "{name} is there twice");
            }
            for route in resource.routes {
                wanted.insert(route.schema.to_owned());
                for parameter in route.parameters {
                    serde_json::from_str::<Value>(parameter.schema).unwrap();
                }
            }
        }
        wanted.retain(|name| !is_text(name));
        let missing: Vec<_> = wanted.difference(&known).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn no_path_and_method_is_there_twice() {
        let mut seen = BTreeSet::new();
        for route in RESOURCES.iter().flat_map(|resource| resource.routes) {
            assert!(seen.insert((route.method, route.path)), "{} {}", route.method, route.path);
        }
    }
}
