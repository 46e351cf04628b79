# A thin front to CMakeLists.txt, for `node-gyp rebuild` and prebuildify: gyp compiles nothing itself.
{
  "targets": [
    {
      "target_name": "thalweg",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/thalweg.node"],
          "action": ["node", "tools/gyp-cmake.mjs", "<(PRODUCT_DIR)", "<(target_arch)"]
        }
      ]
    }
  ]
}
