package org.apache.iceberg.rest;

import org.apache.iceberg.catalog.Namespace;
import org.junit.jupiter.api.AfterEach;

/** The kit's catalog tests, with what no property of the kit turns on: nested namespaces, names with a slash. */
public class NestedCatalogTests extends RESTCompatibilityKitCatalogTests {
  private static final Namespace PARENT = Namespace.of("parent");

  @Override
  protected boolean supportsNestedNamespaces() {
    return true;
  }

  @Override
  protected boolean supportsNamesWithSlashes() {
    return true;
  }

  /** The kit cleans up only the namespaces of the tests that it turns on. */
  @AfterEach
  void dropNested() {
    if (catalog().namespaceExists(PARENT)) {
      catalog().listNamespaces(PARENT).forEach(catalog()::dropNamespace);
      catalog().dropNamespace(PARENT);
    }
  }
}
